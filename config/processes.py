"""Owns the processes of the Procfile while `make up` runs: start, output, stop.

honcho reads the Procfile, runs each process in a session of its own and prints its lines. Its
Manager is not used: it has no SIGHUP, fails when a signal comes before all have started, and
forks this process once for each.
"""

import queue
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from logging import LogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from honcho.colour import get_colours
from honcho.compat import ProcessManager
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer
from honcho.process import Process

from config.guard import Guard

# Enough for a web process to finish the requests it has (REQUEST_TIMEOUT_S), and for the others to
# stop after it; what is left then is killed.
STOP_TIMEOUT_S = 27.0
LAST_TIMEOUT_S = 5.0
# A program that is starting may miss the first signal (granian does, between fork and handler).
ASK_AGAIN_S = 1.0
LOG_MAX_BYTES = 10_000_000
LAST_LINES = 15


def read_procfile(path: Path) -> dict[str, str]:
    """Process type → command, in the file's order."""
    return dict(parse_procfile(path.read_text()).processes)


class Processes:
    """Starts processes one by one, and stops all of them.

    Their lines go to `log`, and to the terminal once `show` is called.
    """

    def __init__(self, guard: Guard, log: Path, width: int = 6) -> None:
        self._guard = guard
        self._events: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._colours = get_colours()
        self._output = _Output(log, width)
        self._threads: dict[str, threading.Thread] = {}
        self._pids: dict[str, int] = {}
        self._statuses: dict[str, int] = {}
        self.log = log

    def start(self, name: str, command: str, env: Mapping[str, str], folder: Path) -> None:
        # `exec`: the process gets its signals itself, without a shell in between.
        process = Process(
            f"exec {command}",
            name=name,
            colour=next(self._colours),
            env=dict(env),
            cwd=str(folder),
        )
        # A thread, because an exception of a signal handler is raised in the main thread only: it
        # cannot fall between the fork and the note of the pid.
        thread = threading.Thread(target=self._run, args=(process,), name=name, daemon=True)
        self._threads[name] = thread
        thread.start()

    def pump(self, timeout_s: float) -> None:
        """Handle what the processes said and did, for at most `timeout_s` while nothing happens."""
        with suppress(queue.Empty):
            self._handle(self._events.get(timeout=timeout_s))
            while True:
                self._handle(self._events.get_nowait())

    def find_ended(self) -> tuple[str, int] | None:
        """The first process that has ended, with its status."""
        return next(iter(self._statuses.items()), None)

    def show(self) -> None:
        """From now on, print the processes' lines on the terminal too."""
        self._output.terminal = True

    def last_lines(self, name: str) -> list[str]:
        return self._output.last_lines(name)

    def stop(self, first: Collection[str] = ()) -> None:
        """Ask every process to stop, those named by `first` before the rest, and kill what has not
        within STOP_TIMEOUT_S (and LAST_TIMEOUT_S more for the rest)."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        self._stop({name for name in self._threads if name in first}, deadline)
        self._stop(set(self._threads), max(deadline, time.monotonic() + LAST_TIMEOUT_S))
        self.pump(0.0)
        for pid in self._pids.values():
            ProcessManager().kill(pid)  # what a process left behind in its session
        self._output.close()

    def _stop(self, names: Collection[str], deadline: float) -> None:
        manager = ProcessManager()
        asked_at: dict[str, float] = {}
        while any(self._threads[name].is_alive() for name in names):
            self.pump(0.05)
            now = time.monotonic()
            for name in (self._pids.keys() - self._statuses.keys()).intersection(names):
                if now > deadline:
                    manager.kill(self._pids[name])
                elif now - asked_at.get(name, 0.0) > ASK_AGAIN_S:
                    manager.terminate(self._pids[name])
                    asked_at[name] = now

    def _run(self, process: Process) -> None:
        try:
            process.run(self._events)
        except OSError as error:  # it could not be started
            self._put(process.name, "line", str(error))
            self._put(process.name, "stop", {"returncode": 126})

    def _put(self, name: str, kind: str, data: Any) -> None:
        self._events.put(Message(type=kind, data=data, time=datetime.now(), name=name, colour=None))  # noqa: DTZ005 - honcho prints local time

    def _handle(self, message: Message) -> None:
        if message.type == "start":
            pid = message.data["pid"]
            self._pids[message.name] = pid
            self._guard.watch_group(pid)
        elif message.type == "stop":
            self._statuses[message.name] = message.data["returncode"]
        else:
            self._output.write(message)


class _Output:
    """Where lines go: always to a log of bounded size, to the terminal when asked."""

    def __init__(self, log: Path, width: int) -> None:
        log.touch(mode=0o600)
        self._file = _LogFile(log, maxBytes=LOG_MAX_BYTES, backupCount=1)
        self._printer = Printer(width=width)
        self._last: dict[str, list[str]] = {}
        self.terminal = False

    def write(self, message: Message) -> None:
        text = message.data
        text = text.decode(errors="replace") if isinstance(text, bytes) else text
        for line in text.splitlines():
            entry = f"{message.time:%Y-%m-%d %H:%M:%S} {message.name} | {line}"
            self._file.emit(LogRecord("", 0, "", 0, entry, (), None))
            self._last[message.name] = [*self._last.get(message.name, []), line][-LAST_LINES:]
        if self.terminal:
            try:
                self._printer.write(message)
            except OSError:
                self.terminal = False  # the terminal was closed; the log goes on

    def last_lines(self, name: str) -> list[str]:
        return self._last.get(name, [])

    def close(self) -> None:
        self._file.close()


class _LogFile(RotatingFileHandler):
    """A full disk must not stop what still works: say it once, and go on without a log."""

    _failed = False

    def handleError(self, record: LogRecord) -> None:  # noqa: N802 - logging's name
        if not self._failed:
            self._failed = True
            print(f"{self.baseFilename} is not written any more: is the disk full?")  # noqa: T201

    def close(self) -> None:
        try:
            super().close()
        except OSError:
            self.handleError(LogRecord("", 0, "", 0, "", (), None))
