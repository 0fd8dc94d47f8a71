"""Makes .venv and installs a lock file into it; then runs what follows, if anything does.

    python3 bin/install.py requirements.lock [ARGUMENTS OF .venv/bin/python …]

Run by whatever Python the machine has, so it uses the standard library only. Installs only when
the lock changed since it was last installed to the end; an interrupted install is taken up again.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN_LOCK, DEV_LOCK = "requirements.lock", "requirements-dev.lock"
OLDEST_PYTHON = (3, 11)
# 1.8 GB was measured with the CPU build of torch. On Linux pip may choose the build for NVIDIA
# GPUs, whose libraries take several times that.
NEEDED_GB = 3.0
NEEDED_WITH_CUDA_GB = 10.0
# Less than this after a failed install means that a full disk was the reason.
FULL_GB = 0.2
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STEPS = 3


class CannotInstall(Exception):
    """What the user has to know and can do something about, in one line."""


def main(arguments: list[str]) -> int:
    lock, command = arguments[0], arguments[1:]
    # Delivered to this process alone, `kill` would otherwise leave pip running behind it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require_python(sys.version_info[:3])
        install(ROOT, lock)
    except CannotInstall as error:
        print(f"Annex: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Annex: interrupted; the next run goes on from here.", file=sys.stderr)
        return 130
    if command:
        python = str(venv_python(ROOT))
        if "config.up" in command:
            # It sets its own handlers and then lets these through: a signal that comes while
            # Python starts waits for that, instead of ending in a traceback.
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        os.execv(python, [python, *command])  # noqa: S606 - a shell would only stand in between
    return 0


def require_python(version: tuple[int, ...]) -> None:
    if version < OLDEST_PYTHON:
        raise CannotInstall(
            "Python 3.11 or newer is needed, this is {} ({}). Name another: "
            "make up PYTHON=python3.12".format(".".join(map(str, version)), sys.executable)
        )


def install(root: Path, lock: str) -> None:
    """Make the virtual environment say what `lock` says; at once if it already does."""
    digest = digest_of(root / lock)
    if venv_python(root).exists() and installed_digest(root, lock) == digest:
        return
    free_gb = require_disk(root)
    say(1, f"Python {platform.python_version()} ({sys.executable}), {free_gb:.0f} GB free")
    say(2, "Virtual environment: .venv")
    make_venv(root)
    say(3, f"Packages of {lock}: the first time, some minutes")
    stamp(root).unlink(missing_ok=True)
    pip_install(root, lock)
    write_stamp(root, lock)


def require_disk(root: Path) -> float:
    """The free space in GB; raises CannotInstall if the packages would not fit."""
    free_gb = shutil.disk_usage(root).free / 1e9
    already_there_gb = NEEDED_GB if any(root.glob(".venv/lib/*/site-packages/torch")) else 0.0
    needed_gb = NEEDED_GB - already_there_gb + FULL_GB
    if free_gb < needed_gb:
        raise CannotInstall(
            f"the disk is full: the packages need {needed_gb:.1f} GB in {root}, "
            f"{free_gb:.1f} GB are free."
        )
    if platform.system() == "Linux" and free_gb < NEEDED_WITH_CUDA_GB and not already_there_gb:
        print(
            f"Only {free_gb:.1f} GB are free: enough for torch's CPU build; its build for NVIDIA "
            f"GPUs, which pip may choose, needs up to {NEEDED_WITH_CUDA_GB:.0f} GB.",
            flush=True,
        )
    return free_gb


def make_venv(root: Path) -> None:
    """A virtual environment with pip; one that works is kept, a broken one is made anew."""
    works = [str(venv_python(root)), "-c", "import pip, sys; sys.exit(sys.version_info < (3, 11))"]
    if venv_python(root).exists() and subprocess.run(works, capture_output=True).returncode == 0:
        return
    if find_spec("ensurepip") is None:
        raise CannotInstall(
            f"{sys.executable} cannot make virtual environments: install its venv package "
            "(on Debian and Ubuntu: apt install python3-venv) and run this again."
        )
    run([sys.executable, "-m", "venv", "--clear", str(root / ".venv")], root, "venv")


def pip_install(root: Path, lock: str) -> None:
    # pip unpacks into $TMPDIR; /tmp is often a small memory disk, too small for torch.
    unpack = root / ".venv" / "tmp"
    unpack.mkdir(exist_ok=True)
    command = [str(venv_python(root)), "-m", "pip", "install", "--disable-pip-version-check"]
    try:
        run([*command, "--requirement", lock], root, "pip", TMPDIR=str(unpack))
    finally:
        shutil.rmtree(unpack, ignore_errors=True)


def run(command: list[str], root: Path, name: str, **environ: str) -> None:
    """Run a step on this terminal; ends it too when this process is told to end."""
    process = subprocess.Popen(command, cwd=root, env={**os.environ, **environ})
    try:
        status = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if status == 0:
        return
    free_gb = shutil.disk_usage(root).free / 1e9
    if free_gb < FULL_GB:
        raise CannotInstall(f"the disk is full: {free_gb:.2f} GB are free in {root}.")
    raise CannotInstall(f"{name} failed with status {status}; what it says is above.")


def venv_python(root: Path) -> Path:
    return root / ".venv" / "bin" / "python"


def stamp(root: Path) -> Path:
    """Holds `DIGEST LOCK` of what was installed to the end; written last."""
    return root / ".venv" / "installed-locks"


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def installed_digest(root: Path, lock: str) -> str | None:
    try:
        lines = stamp(root).read_text().splitlines()
    except OSError:
        return None
    return next((line.split()[0] for line in lines if line.split()[1:] == [lock]), None)


def write_stamp(root: Path, lock: str) -> None:
    # What the development lock installs contains the other lock's packages, at the same versions.
    locks = [RUN_LOCK, DEV_LOCK] if lock == DEV_LOCK else [lock]
    lines = [f"{digest_of(root / name)} {name}\n" for name in locks]
    unfinished = stamp(root).with_suffix(".new")
    unfinished.write_text("".join(lines))
    unfinished.replace(stamp(root))


def say(step: int, what: str) -> None:
    print(f"[{step}/{STEPS}] {what}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        sys.exit(f"Annex: cannot install: {error}")
