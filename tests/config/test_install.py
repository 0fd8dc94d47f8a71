"""bin/install.py: what it refuses, and when it installs."""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "bin" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "requirements.lock").write_text("one==1.0\n")
    (tmp_path / "requirements-dev.lock").write_text("one==1.0\ntwo==2.0\n")
    return tmp_path


@pytest.fixture
def installed(installer: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The locks that pip was asked to install; neither a venv nor pip is really run."""
    locks: list[str] = []

    def make_venv(root: Path) -> None:
        python = root / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()

    monkeypatch.setattr(installer, "make_venv", make_venv)
    monkeypatch.setattr(installer, "pip_install", lambda _, lock: locks.append(lock))
    return locks


def test_an_old_python_is_refused_and_another_one_asked_for(installer: ModuleType) -> None:
    with pytest.raises(installer.CannotInstall) as refused:
        installer.require_python((3, 9, 2))
    assert "Python 3.11 or newer is needed, this is 3.9.2" in str(refused.value)
    assert "\n" not in str(refused.value)
    installer.require_python((3, 11, 0))


def test_a_full_disk_is_refused_with_what_is_needed_and_what_is_free(
    installer: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(10**12, 0, 1_200_000_000))
    with pytest.raises(installer.CannotInstall) as refused:
        installer.install(checkout, "requirements.lock")
    assert "3.2 GB" in str(refused.value)
    assert "1.2 GB are free" in str(refused.value)
    assert not (checkout / ".venv").exists()


def test_a_disk_that_fills_up_meanwhile_is_named_as_the_reason(
    installer: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(10**12, 0, 1_000_000))
    with pytest.raises(installer.CannotInstall, match="the disk is full"):
        installer.run([sys.executable, "-c", "raise SystemExit(1)"], checkout, "pip")


def test_a_failed_step_is_named_with_its_status(installer: ModuleType, checkout: Path) -> None:
    with pytest.raises(installer.CannotInstall, match="pip failed with status 3"):
        installer.run([sys.executable, "-c", "raise SystemExit(3)"], checkout, "pip")


def test_nothing_is_done_while_the_lock_stays_the_same(
    installer: ModuleType, checkout: Path, installed: list[str]
) -> None:
    installer.install(checkout, "requirements.lock")
    installer.install(checkout, "requirements.lock")
    assert installed == ["requirements.lock"]


def test_a_changed_lock_is_installed(
    installer: ModuleType, checkout: Path, installed: list[str]
) -> None:
    installer.install(checkout, "requirements.lock")
    (checkout / "requirements.lock").write_text("one==1.1\n")
    installer.install(checkout, "requirements.lock")
    assert installed == ["requirements.lock"] * 2


def test_the_development_lock_satisfies_the_other_one_but_not_the_reverse(
    installer: ModuleType, checkout: Path, installed: list[str]
) -> None:
    installer.install(checkout, "requirements.lock")
    installer.install(checkout, "requirements-dev.lock")
    installer.install(checkout, "requirements.lock")
    assert installed == ["requirements.lock", "requirements-dev.lock"]


def test_an_interrupted_install_is_taken_up_again(
    installer: ModuleType,
    checkout: Path,
    installed: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installer.install(checkout, "requirements.lock")
    (checkout / "requirements.lock").write_text("one==1.1\n")

    def interrupted(root: Path, lock: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(installer, "pip_install", interrupted)
        with pytest.raises(KeyboardInterrupt):
            installer.install(checkout, "requirements.lock")
    # Even for the lock that was installed before: half of its packages may be replaced by now.
    (checkout / "requirements.lock").write_text("one==1.0\n")
    installer.install(checkout, "requirements.lock")
    assert installed == ["requirements.lock"] * 2


def test_the_development_lock_names_the_same_versions_as_the_other_one() -> None:
    def pins(name: str) -> set[str]:
        lines = (ROOT / name).read_text().splitlines()
        return {line.strip() for line in lines if "==" in line and not line.startswith((" ", "#"))}

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_make_says_in_one_line_that_python_is_missing() -> None:
    make = shutil.which("make")
    assert make is not None
    done = subprocess.run(
        [make, "up"], cwd=ROOT, env={"PATH": "/nonexistent"}, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert "Annex needs Python 3.11 or newer" in done.stderr


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_the_lock_has_what_is_required(name: str) -> None:
    """Forgotten `make lock` is what breaks a fresh machine while everything works here."""
    required = {
        re.split(r"[\[=~<>! ]", line)[0]
        for line in (ROOT / f"{name}.in").read_text().splitlines()
        if line and line[0].isalpha()
    }
    locked = re.findall(r"^([a-z0-9-]+)==", (ROOT / f"{name}.lock").read_text(), re.MULTILINE)
    assert required - set(locked) == set()
