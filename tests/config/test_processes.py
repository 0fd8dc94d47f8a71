"""The processes of the Procfile: started, shown, stopped; and the guard behind them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # publishes no type information
import pytest

from config.guard import Guard
from config.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
# Starts a process that ignores SIGTERM, prints its pid, and is killed.
OWNER = """
import os, sys, time
from pathlib import Path
from config.guard import Guard
from config.processes import Processes
processes = Processes(Guard(), Path(sys.argv[1]))
processes.start("one", "sh -c 'trap \\"\\" TERM; echo up; while :; do sleep 0.1; done'",
                os.environ, Path("/"))
while not processes.last_lines("one"):
    processes.pump(0.1)
print(processes._pids["one"], flush=True)
time.sleep(60)
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    guard = Guard()
    processes = Processes(guard, tmp_path / "annex.log")
    yield processes
    processes.stop()
    guard.release()


def pump_until_ended(processes: Processes) -> tuple[str, int]:
    deadline = time.monotonic() + 20
    while (ended := processes.find_ended()) is None:
        assert time.monotonic() < deadline
        processes.pump(0.05)
    return ended


def test_a_process_that_ends_is_found_with_its_status_and_its_last_lines(
    processes: Processes, tmp_path: Path
) -> None:
    processes.start("stays", "sleep 60", os.environ, tmp_path)
    processes.start("ends", "sh -c 'echo why; exit 3'", os.environ, tmp_path)
    assert pump_until_ended(processes) == ("ends", 3)
    assert processes.last_lines("ends") == ["why"]
    assert processes.log.read_text().endswith("ends | why\n")


def test_a_program_that_is_missing_has_ended(processes: Processes, tmp_path: Path) -> None:
    processes.start("missing", "/nonexistent/program", os.environ, tmp_path)
    assert pump_until_ended(processes) == ("missing", 127)


def test_lines_are_printed_only_when_asked_for(
    processes: Processes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processes.start("quiet", "echo before", os.environ, tmp_path)
    pump_until_ended(processes)
    assert capsys.readouterr().out == ""


def test_those_named_first_stop_before_the_rest(processes: Processes, tmp_path: Path) -> None:
    # `trap : TERM`: a signal that is sent again must not start the trap again.
    stop = "trap : TERM; sleep $1; echo $0 stops; exit"
    script = f"sh -c 'trap \"{stop}\" TERM; echo up; while :; do sleep 0.1; done'"
    for name, slow in (("gpu", 0), ("web", 1)):
        processes.start(name, f"{script} {name} {slow}", os.environ, tmp_path)
        while not processes.last_lines(name):
            processes.pump(0.05)
    processes.stop(first={"web"})
    stops = [line for line in processes.log.read_text().splitlines() if "stops" in line]
    assert [line.rsplit("| ", 1)[1] for line in stops] == ["web stops", "gpu stops"]


def test_stopping_ends_whole_groups(processes: Processes, tmp_path: Path) -> None:
    processes.start("parent", "sh -c 'sleep 60 & echo $!; wait'", os.environ, tmp_path)
    while not processes.last_lines("parent"):
        processes.pump(0.05)
    child = int(processes.last_lines("parent")[0])
    processes.stop()
    assert not is_alive(child)


def test_a_stop_at_once_after_a_start_leaves_nothing(processes: Processes, tmp_path: Path) -> None:
    processes.start("one", "sleep 61.25", os.environ, tmp_path)
    processes.stop()
    lines = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert ["sleep", "61.25"] not in lines


def test_the_guard_ends_what_a_killed_owner_leaves_even_if_it_resists(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path / "log")]
    owner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.communicate()
    deadline = time.monotonic() + 15
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
