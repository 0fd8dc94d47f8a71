"""Checkpoints on this machine: where they lie, and that they still are what was installed."""

import hashlib
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import msgspec

# Beside the files of a checkpoint that `manage.py models install` has put there.
MANIFEST_FILE = "manifest.json"
TOKENIZER_FILE = "tokenizer.json"
WEIGHTS_FILE = "model.safetensors"
# The ranges that `manage.py models calibrate` has made for these weights.
CALIBRATION_FILE = "calibration.json"

CHUNK_BYTES = 1 << 20


class InstalledFile(msgspec.Struct, frozen=True, kw_only=True):
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What was installed. `revision` is what the catalogue asked for, `commit` what the hub had
    there; a checkpoint that came from a folder has none."""

    checkpoint: str
    revision: str
    commit: str | None
    installed_at: datetime
    files: dict[str, InstalledFile]


class CheckpointDamaged(Exception):
    """Files are not what was installed; `problems` says what is wrong with each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def find_manifest(folder: Path) -> Manifest | None:
    """What lies in `folder`; None where nothing was installed. Raises msgspec.DecodeError."""
    file = folder / MANIFEST_FILE
    try:
        changed_at_ns = file.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    return _read_manifest(file, changed_at_ns)


@lru_cache(maxsize=64)
def _read_manifest(file: Path, changed_at_ns: int) -> Manifest:
    return msgspec.json.decode(file.read_bytes(), type=Manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Durably. A machine that loses power may have it beside files that are not whole: their
    SHA-256 then tells, before a worker loads them."""
    with (folder / MANIFEST_FILE).open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        file.flush()
        os.fsync(file.fileno())


@cache
def package_folder(package: str) -> Path | None:
    """Where an installed Python package lies; None where it is not installed."""
    spec = find_spec(package)  # of a top-level package: nothing is imported
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def hash_file(file: Path, advance: Callable[[int], object]) -> str:
    """The file's SHA-256, hexadecimal; `advance` is told of the bytes as they are read."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def _ignore(bytes_read: int) -> None:
    """Of progress that nobody watches."""


def verify(
    folder: Path, expected: Mapping[str, str], advance: Callable[[int], object] = _ignore
) -> None:
    """Raise CheckpointDamaged unless each file named in `expected` has the SHA-256 given there."""
    problems = []
    for name, sha256 in expected.items():
        file = folder / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif (found := hash_file(file, advance)) != sha256:
            problems.append(f"{name} has sha256 {found} instead of {sha256}")
    if problems:
        raise CheckpointDamaged(problems)
