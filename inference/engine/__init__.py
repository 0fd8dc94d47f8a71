"""The engine: token ids in, vectors out. A torch library of its own, without Django or Celery."""

from inference.engine.checkpoint import CheckpointMismatch, verify_checkpoint
from inference.engine.encoder import Encoder

__all__ = ["CheckpointMismatch", "Encoder", "verify_checkpoint"]
