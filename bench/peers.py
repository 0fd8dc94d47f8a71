"""infinity-emb over HTTP, where `make bench-peers` has set it up, in an environment of its own."""

import os
import shlex
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.annex import HOST
from bench.processes import ROOT, running_process
from bench.workload import Workload
from config.embedded_servers import free_port

INFINITY = ROOT / ".venv-peers" / "bin" / "infinity_emb"
INFINITY_MODEL = "minilm"
START_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Infinity:
    """A running server."""

    dtype: str
    port: int


def find_why_no_infinity() -> str:
    """Why infinity cannot be measured; empty if it can."""
    return "" if INFINITY.exists() else "not set up: `make bench-peers`"


@contextmanager
def running_infinity(workload: Workload, dtype: str, log: Path) -> Iterator[Infinity]:
    """Serve the workload's model until the end of the block."""
    port = free_port()
    command = [
        *(str(INFINITY), "v2", "--model-id", str(workload.folder)),
        *("--served-model-name", INFINITY_MODEL, "--engine", "torch", "--device", "cpu"),
        *("--dtype", dtype, "--host", HOST, "--port", str(port), "--log-level", "error"),
    ]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    with running_process(shlex.join(command), environ, log) as process:
        _wait_until_healthy(process, port, log)
        yield Infinity(dtype=dtype, port=port)


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError(f"infinity does not start:\n{log.read_text(errors='replace')[-2000:]}")
