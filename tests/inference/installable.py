"""A test's own catalogue and models folder, and a repository that is quickly made."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from inference.catalogue import Model, load_catalogue
from tests.inference.engine.checkpoints import word_piece

WEIGHTS_BYTES = 24_000_000  # more than the hub's library reads at a time

ENTRY = """
[[model]]
id = "small"
checkpoint = "someone/small"
architecture = "bert"
pooling = "mean"
dimensions = 32
context_tokens = 128
max_input_characters = 1000
"""


def write_catalogue(path: Path, text: str = ENTRY) -> Model:
    """The model of a catalogue of one entry, which the process now has."""
    path.write_text(text)
    load_catalogue.cache_clear()
    return next(iter(load_catalogue().values()))


def make_repository(folder: Path) -> Path:
    """A checkpoint that fits ENTRY, but for its weights, which nothing could run."""
    folder.mkdir()
    config = {"model_type": "bert", "hidden_size": 32, "max_position_embeddings": 128}
    (folder / "config.json").write_text(json.dumps(config))
    word_piece().save(str(folder / "tokenizer.json"))
    noise = np.random.default_rng(0).integers(0, 256, WEIGHTS_BYTES, np.uint8)
    save_file({"noise": noise}, folder / "model.safetensors")
    return folder
