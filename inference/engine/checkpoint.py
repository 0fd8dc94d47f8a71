"""Checkpoints: the weights on disk are the weights that the catalogue names, or nothing runs."""

import hashlib
from pathlib import Path

WEIGHTS_FILE = "model.safetensors"


class CheckpointMismatch(Exception):
    """The weights file is not the one expected."""


def verify_checkpoint(folder: Path, sha256: str) -> None:
    """Raise CheckpointMismatch unless the folder's weights have that SHA-256 (hexadecimal)."""
    with (folder / WEIGHTS_FILE).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise CheckpointMismatch(
            f"{folder / WEIGHTS_FILE} has sha256 {found}, the catalogue says {sha256}"
        )
