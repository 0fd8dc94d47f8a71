"""One worker process a GPU: `serve_models` on a machine with several starts one for each."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

POLL_S = 0.2


def visible_gpus(environ: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """What CUDA_VISIBLE_DEVICES names, or else every NVIDIA device of the machine, found without
    loading torch."""
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    numbers = [path.name.removeprefix("nvidia") for path in devices.glob("nvidia[0-9]*")]
    return sorted(numbers, key=int)


def run_one_process_each(command: Sequence[str], gpus: Sequence[str]) -> int:
    """Run `command` once a GPU until all have ended; stop signals go on to each. When one ends by
    itself the others are stopped too, so that whoever watches this process starts all anew."""
    processes: list[subprocess.Popen[bytes]] = []
    stopping: list[int] = []

    def stop(signum: int, _: FrameType | None) -> None:
        stopping.append(signum)
        for process in processes:
            with suppress(ProcessLookupError):
                process.send_signal(signum)

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(signum, stop)
    for gpu in gpus:
        if not stopping:
            environ = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu}
            processes.append(subprocess.Popen(command, env=environ))  # noqa: S603
    if stopping:  # one may have been started while the others were told
        stop(signal.SIGTERM, None)
    while all(process.poll() is None for process in processes):
        time.sleep(POLL_S)
    stop(signal.SIGTERM, None)
    return max((abs(process.wait()) for process in processes), default=0)


def this_command() -> list[str]:
    """What started this process."""
    return [sys.executable, *sys.argv]
