"""The lock files: exact versions, and nothing of the machine that they were made on."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["requirements.lock", "requirements-dev.lock"]
# `name==version`: no marker, no address, no hash, and no `+cpu` or other local version behind it.
PIN = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*==[0-9]+(?:\.[0-9a-z]+)*")
OF_ONE_MACHINE = [
    *("http://", "https://", "file:/", "/opt", "--index-url", "--extra-index-url"),
    *("--find-links", "--trusted-host", "--hash", "sha256:", "+cpu", "+cu"),
]
# What npm also takes in place of a version: another registry, a repository, a folder.
NPM_ADDRESS = re.compile(r"https?:|git[+:]|file:|link:")


def requirements(lock: str) -> list[str]:
    """The lines that pip reads."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / lock).read_text().splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_pinned_to_one_version(lock: str) -> None:
    pins = requirements(lock)
    assert "django" in [pin.split("==")[0] for pin in pins]
    assert [pin for pin in pins if not PIN.fullmatch(pin)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_names_nothing_of_the_machine_it_was_made_on(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert [words for words in OF_ONE_MACHINE if words in text] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_torch_is_locked_to_the_version_that_all_its_builds_have(lock: str) -> None:
    assert [pin for pin in requirements(lock) if pin.startswith("torch==")] == ["torch==2.13.0"]


def test_the_heroku_clis_packages_come_from_whatever_registry_npm_is_told() -> None:
    lock: dict[str, Any] = json.loads((ROOT / "tests/e2e/package-lock.json").read_text())
    packages = {path: entry for path, entry in lock["packages"].items() if path}
    assert "node_modules/heroku" in packages
    for path, entry in packages.items():
        # `funding` may show web pages; npm fetches nothing from them.
        assert "resolved" not in entry, path
        assert not NPM_ADDRESS.match(entry["version"]), path
        assert [v for v in entry.get("dependencies", {}).values() if NPM_ADDRESS.match(v)] == []
