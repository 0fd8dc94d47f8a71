"""A running Annex, started as a user starts it: by `make up`, in a folder of its own."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # publishes no type information

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
# A test's own environment must not decide what is tested.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "PIP_CONFIG_FILE")


def plain_environment(**more: str) -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | more


@dataclass(frozen=True, kw_only=True)
class Started:
    """What `make up` printed until it was ready, and how long that took."""

    lines: list[str]
    ready_after_s: float

    @property
    def to_paste(self) -> list[str]:
        return self.lines[-3:]

    @property
    def exports(self) -> dict[str, str]:
        """The variables of the first line to paste."""
        variables, _, _ = self.to_paste[0].removeprefix("export ").partition(";")
        return dict(word.split("=", 1) for word in variables.split())


class Annex:
    """`make up` with var/ in `folder`; may be started and stopped several times."""

    def __init__(self, folder: Path, port: int) -> None:
        self.var = folder / "var"
        self.port = port
        self.output = folder / "make-up.txt"
        self.environ: dict[str, str] = {}  # what the user has set besides
        self._make: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self) -> Started:
        began_at = time.monotonic()
        with self.output.open("wb") as output:
            self._make = subprocess.Popen(
                ["make", "--no-print-directory", "up"],
                cwd=ROOT,
                env=plain_environment(VAR_DIR=str(self.var), PORT=str(self.port), **self.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        while time.monotonic() - began_at < START_TIMEOUT_S and self._make.poll() is None:
            text = self.output.read_text(errors="replace")
            _, ready, to_paste = text.partition("Annex is ready")
            if ready and to_paste.count("\n") >= 8:
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"make up did not get ready:\n{self.output.read_text()}")
        lines = text[: text.index("\n\n", text.rindex("export "))].splitlines()
        return Started(lines=lines, ready_after_s=time.monotonic() - began_at)

    def manage(self, *words: str, typed: str = "") -> str:
        """What `./manage.py WORDS` prints, as in a second terminal; `typed` is its input."""
        done = subprocess.run(
            ["./manage.py", *words],
            cwd=ROOT,
            env=plain_environment(VAR_DIR=str(self.var), **self.environ),
            input=typed,
            capture_output=True,
            text=True,
            timeout=STOP_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this Annex, the servers and their helpers too."""
        assert self._make is not None
        make = psutil.Process(self._make.pid)
        return [make, *make.children(recursive=True)]

    def find_process(self, words: str) -> psutil.Process:
        """The process whose command line contains `words`."""
        return next(process for process in self.processes() if words in command_line(process))

    def stop(self, stop_signal: signal.Signals = signal.SIGTERM) -> list[str]:
        """Send the signal to `make`; returns the command lines of what is left running then."""
        assert self._make is not None
        processes = self.processes()
        self._make.send_signal(stop_signal)
        self._make.wait(STOP_TIMEOUT_S)
        _, alive = psutil.wait_procs(processes, timeout=5)
        return [command_line(process) for process in alive if not is_zombie(process)]

    def is_running(self) -> bool:
        return self._make is not None and self._make.poll() is None


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def is_zombie(process: psutil.Process) -> bool:
    """Dead, and not yet collected by the machine's process 1."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
