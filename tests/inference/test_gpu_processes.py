"""One worker process a GPU."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference.gpu_processes import run_one_process_each, visible_gpus

RUN = """
import sys
from inference.gpu_processes import run_one_process_each
sys.exit(run_one_process_each([sys.executable, "-c", sys.argv[1], sys.argv[2]], ["0", "1"]))
"""
WRITE = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1], os.environ["CUDA_VISIBLE_DEVICES"]).write_text(str(os.getpid()))
time.sleep(60)
"""


def test_gpus_are_those_that_the_environment_names() -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "2, GPU-abc"}) == ["2", "GPU-abc"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []


def test_gpus_are_otherwise_those_of_the_machine(tmp_path: Path) -> None:
    for name in ("nvidia10", "nvidia0", "nvidia2", "nvidiactl", "null"):
        (tmp_path / name).touch()
    assert visible_gpus({}, tmp_path) == ["0", "2", "10"]


def test_each_gpu_gets_a_process_and_all_stop_together(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN, WRITE, str(tmp_path)])
    deadline = time.monotonic() + 30
    while sorted(path.name for path in tmp_path.iterdir() if path.read_text()) != ["0", "1"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) != 0
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def test_when_one_ends_the_others_are_stopped(tmp_path: Path) -> None:
    program = "import os, time; time.sleep(60 * int(os.environ['CUDA_VISIBLE_DEVICES'])); exit(3)"
    status = run_one_process_each([sys.executable, "-c", program], ["0", "1"])
    assert status != 0
