"""The engine: token ids in, vectors out. A torch library of its own, without Django or Celery."""

from inference.engine import lean_transformers  # noqa: F401 - before whatever imports the rest of it

# isort: split
from inference.engine.checkpoint import estimate_memory_bytes
from inference.engine.encoder import DeviceLost, Encoded, Encoder
from inference.engine.pipeline import Pipeline, Work
from inference.engine.residency import ModelStore, ModelTooLarge
from inference.engine.text_encoder import TextEncoder, encode_texts

__all__ = [
    "DeviceLost",
    "Encoded",
    "Encoder",
    "ModelStore",
    "ModelTooLarge",
    "Pipeline",
    "TextEncoder",
    "Work",
    "encode_texts",
    "estimate_memory_bytes",
]
