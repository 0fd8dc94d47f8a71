"""Faults: a process is killed, by SIGKILL, when a request reaches a step.

The programs beside this module are those of Annex with `strike` at the steps of a request. Nothing
of it is in Annex itself. A fault fires once, in whichever process reaches it first; what fired is
noted in a folder that all of them share.
"""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec
import psutil  # type: ignore[import-untyped]  # publishes no type information

FOLDER_VARIABLE = "FAULTS_DIR"
HEADER = "x-faults"
HERE = "here"
BACKEND = "backend"
REQUEST = "request"

Moment = Literal["before", "during", "after"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """`victim`: a process's name, `HERE` for the one that is at the step, `BACKEND` for one session
    of PostgreSQL, or `REQUEST`, which fails. `delay_s`: from the beginning of a step *during* which
    it is killed."""

    name: str
    step: str
    moment: Moment
    victim: str
    delay_s: float = 0.0

    def __str__(self) -> str:
        delay = f" ({self.delay_s * 1000:.1f} ms)" if self.moment == "during" else ""
        return f"{self.victim} {self.moment} {self.step}{delay}"


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(tuple[Fault, ...]).decode


class Folder:
    """What the processes of a deployment tell each other: pids, armed faults, fired ones."""

    def __init__(self, path: Path) -> None:
        self.pids = path / "pids"
        self.armed = path / "armed"
        self.fired = path / "fired"

    def make(self) -> None:
        for folder in (self.pids, self.armed, self.fired):
            folder.mkdir(parents=True, exist_ok=True)

    def arm(self, faults: Iterable[Fault]) -> None:
        """Let `faults`, and only they, strike whatever request reaches their steps."""
        for path in self.armed.iterdir():
            path.unlink()
        for fault in faults:
            (self.armed / fault.name).write_bytes(encode((fault,)))

    def list_armed(self) -> Iterator[Fault]:
        for path in self.armed.iterdir():
            with suppress(FileNotFoundError, msgspec.DecodeError):  # disarmed, or being armed
                yield from decode(path.read_bytes())

    def claim(self, fault: Fault) -> bool:
        """Whether it has not fired yet; from now on it has."""
        try:
            with (self.fired / fault.name).open("x") as note:
                note.write(f"{time.time()}")
        except FileExistsError:
            return False
        return True

    def kill(self, victim: str) -> None:
        """SIGKILL to a process and all that descend from it, this process last. A victim that is
        down already is no error."""
        name = "postgres" if victim == BACKEND else victim
        with suppress(FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
            process = psutil.Process(int((self.pids / name).read_text().split()[0]))
            doomed = _sessions(process) if victim == BACKEND else _family(process)
            for member in sorted(doomed, key=lambda member: member.pid == os.getpid()):
                with suppress(psutil.NoSuchProcess):
                    member.kill()


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _sessions(postmaster: psutil.Process) -> list[psutil.Process]:
    """One client's session of PostgreSQL, the newest."""
    sessions = [child for child in postmaster.children() if "[local]" in " ".join(child.cmdline())]
    return sessions[-1:]


class Striker:
    """Fires the faults of one process; a request that is to fail does so with `refusal`."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self._folder = Folder(Path(os.environ[FOLDER_VARIABLE]))
        self._refusal = refusal

    def strike(self, faults: Iterable[Fault], step: str, moment: Moment) -> None:
        for fault in faults:
            if (fault.step, fault.moment) == (step, moment) and self._folder.claim(fault):
                self._fire(fault)

    @contextmanager
    def at(self, step: str, faults: Iterable[Fault] = ()) -> Iterator[None]:
        """The block is `step`, for a request with `faults` and for whatever is armed."""
        live = [*faults, *self._folder.list_armed()]
        self.strike(live, step, "before")
        for fault in live:
            if (fault.step, fault.moment) == (step, "during"):
                threading.Timer(fault.delay_s, self.strike, ([fault], step, "during")).start()
        yield
        self.strike(live, step, "after")

    def _fire(self, fault: Fault) -> None:
        if fault.victim == HERE:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.victim == REQUEST and self._refusal is not None:
            raise self._refusal
        self._folder.kill(fault.victim)
