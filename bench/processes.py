"""Processes that a benchmark starts, and that end with it however it ends."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from config.guard import Guard

ROOT = Path(__file__).resolve().parent.parent
STOP_TIMEOUT_S = 30.0


@contextmanager
def running_process(
    command: str, environ: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A shell's command in the project's folder, until the end of the block; output in `log`."""
    guard = Guard()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S602 - the Procfile's commands are a shell's
            f"exec {command}",
            shell=True,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C stops this process, which stops that one
        )
    try:
        guard.watch_group(process.pid)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        guard.release()
