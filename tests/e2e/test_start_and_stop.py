"""`make up`, its stop, and its second start, as a user meets them."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # publishes no type information
import pytest
from redis import Redis

from config.embedded_servers import free_port, running_servers
from tests.e2e.annex import (
    ROOT,
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    Started,
    command_line,
    is_zombie,
    plain_environment,
)
from tests.e2e.cli import HerokuCli
from tests.e2e.conftest import Running

SECOND_START_MAX_S = 10.0
# A busy machine may take longer once; one that takes longer each time is not busy but slow.
SECOND_START_ATTEMPTS = 3
NOTHING_LEFT_WITHIN_S = 5.0
END_OF_WHAT_TO_PASTE = """"input":"Hello"}'\n"""


class MakeUp:
    """`make up` with var/ in `folder`, leading a process group as in a terminal.

    `environ` is what the user has set besides. Unlike `Annex`, it can be met while it starts.
    """

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.var = folder / "var"
        self._output = folder / "make-up.txt"
        with self._output.open("wb") as output:
            self._make = subprocess.Popen(
                ["make", "--no-print-directory", "up"],
                cwd=ROOT,
                env=plain_environment(VAR_DIR=str(self.var), PORT=str(free_port()), **environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while words not in self.said:
            assert self._make.poll() is None, f"make up has ended:\n{self.said}"
            assert time.monotonic() < deadline, f"make up did not say {words!r}:\n{self.said}"
            time.sleep(0.02)

    def wait_until_ready(self) -> Started:
        began_at = time.monotonic()
        self.wait_for(END_OF_WHAT_TO_PASTE)
        ready_after_s = time.monotonic() - began_at
        before, end, _ = self.said.partition(END_OF_WHAT_TO_PASTE)
        return Started(lines=(before + end).splitlines(), ready_after_s=ready_after_s)

    def press_ctrl_c(self) -> int:
        """SIGINT to the whole group, as a terminal sends it; returns make's status."""
        return self.end(signal.SIGINT)

    def end(self, stop_signal: signal.Signals = signal.SIGTERM) -> int:
        if self._make.poll() is None:
            os.killpg(self._make.pid, stop_signal)
        return self._make.wait(STOP_TIMEOUT_S)


@contextmanager
def make_up(folder: Path, **environ: str) -> Iterator[MakeUp]:
    """A `make up` that has ended when the block has."""
    up = MakeUp(folder, environ)
    try:
        yield up
    finally:
        up.end()


def test_a_start_shows_each_step_and_ends_with_three_lines_to_paste(running: Running) -> None:
    steps = [line for line in running.first.lines if line.startswith("[")]
    assert [step.split()[0] for step in steps[-6:]] == [f"[{n}/6]" for n in range(1, 7)]
    export, create, call = running.first.to_paste
    assert export.startswith(f"export HEROKU_HOST={running.annex.url} HEROKU_API_KEY=HRKU-")
    assert "addons:create heroku-inference:standard" in create
    assert call.startswith("curl ")


def test_sigterm_leaves_nothing_running(running: Running) -> None:
    assert running.left_after_first == []


@pytest.fixture(scope="module")
def interrupted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose Annex is interrupted again and again."""
    return tmp_path_factory.mktemp("interrupted")


@pytest.mark.parametrize("when", ["Annex is ready", "[1/6]", "[2/6]", "[5/6]"])
def test_ctrl_c_leaves_nothing_running_whenever_it_comes(
    interrupted_folder: Path, when: str
) -> None:
    with make_up(interrupted_folder) as up:
        up.wait_for(when)
        assert ("Annex is ready" in up.said) == (when == "Annex is ready")
        assert processes_in(interrupted_folder) != []
        status = up.press_ctrl_c()
    # make waits for Annex, which ends with 0, and then dies of the signal as shells expect; of a
    # status other than 0 it would say `*** [Makefile:…: up] Error 1`.
    # Started by a shell in the background, make was told to ignore Ctrl-C: then it ends with 0.
    assert status in {0, -signal.SIGINT}
    assert up.said.endswith("Annex has stopped.\n")
    assert "***" not in up.said
    assert "Traceback" not in up.said
    deadline = time.monotonic() + NOTHING_LEFT_WITHIN_S
    while left := processes_in(interrupted_folder):
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.1)


def test_a_second_start_is_serving_within_ten_seconds(running: Running) -> None:
    took_s = [running.second.ready_after_s]
    while took_s[-1] >= SECOND_START_MAX_S and len(took_s) < SECOND_START_ATTEMPTS:
        assert running.annex.stop(signal.SIGTERM) == []
        took_s.append(running.annex.start().ready_after_s)
    print("second start: ready after", ", ".join(f"{s:.1f} s" for s in took_s))  # noqa: T201
    assert min(took_s) < SECOND_START_MAX_S


def test_a_second_start_shows_the_same_key(running: Running) -> None:
    assert running.second.exports == running.first.exports


def test_the_generated_secrets_are_for_the_user_only(running: Running) -> None:
    environment = running.annex.var / "environment"
    assert environment.stat().st_mode & 0o077 == 0


def test_what_is_printed_can_be_pasted(running: Running, heroku: HerokuCli) -> None:
    answer = heroku.shell(*running.second.to_paste)
    assert "Creating shop" in answer.seen.replace("⬢ ", "")
    assert '"embedding":[' in answer.stdout.replace(" ", "")


def test_the_operator_can_log_in(running: Running) -> None:
    line = next(line for line in running.second.lines if line.startswith("Operator:"))
    password = line.split()[-1]
    login = f"{running.annex.url}/admin/login/"
    jar = running.annex.var / "cookies.txt"
    form = _curl("--cookie-jar", str(jar), login)
    token = form.split('name="csrfmiddlewaretoken" value="')[1].split('"')[0]
    answer = _curl(
        *("--cookie", str(jar), "--cookie-jar", str(jar), "--header", f"Referer: {login}"),
        *("--data-urlencode", f"csrfmiddlewaretoken={token}", "--data", "username=operator"),
        *("--data-urlencode", f"password={password}", "--data", "next=/admin/"),
        *("--write-out", "%{http_code} %{redirect_url}", login),
    )
    assert answer.endswith(f"302 {running.annex.url}/admin/")


def test_manage_py_works_in_a_second_terminal(running: Running) -> None:
    done = subprocess.run(
        ["./manage.py", "create_account", "second@example.com"],
        cwd=ROOT,
        env=plain_environment(VAR_DIR=str(running.annex.var)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"export HEROKU_HOST={running.annex.url} HEROKU_API_KEY=HRKU-" in done.stdout


def test_a_second_make_up_in_the_same_folder_says_who_is_running(running: Running) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "up"],
        cwd=ROOT,
        env=plain_environment(VAR_DIR=str(running.annex.var), PORT=str(running.annex.port)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert "already running in this folder (process " in said[0]
    pid = int(said[0].split("(process ")[1].split(")")[0])
    os.kill(pid, 0)


def test_servers_that_the_user_names_are_used_and_none_is_started(tmp_path: Path) -> None:
    servers, folder, home = (tmp_path / name for name in ("servers", "annex", "home"))
    for path in (servers, folder, home):
        path.mkdir()
    with running_servers(servers, durable=False) as addresses:
        named = {"DATABASE_URL": addresses.database_url, "REDIS_URL": addresses.redis_url}
        with make_up(folder, **named) as up:
            started = up.wait_until_ready()
            steps = [line for line in started.lines if line.startswith("[1/6]")]
            assert steps == ["[1/6] DATABASE_URL and REDIS_URL"]
            assert not (up.var / "postgres").exists()
            assert not (up.var / "valkey").exists()
            lines = [line for _, line in processes_in(folder)]
            assert [line for line in lines if "granian" in line] != []
            assert [line for line in lines if "postgres" in line or "valkey" in line] == []
            answer = HerokuCli(started.exports, home).shell(*started.to_paste)
            assert '"embedding":[' in answer.stdout.replace(" ", "")
        # It stops what it has started, and these it has not.
        with Redis.from_url(addresses.redis_url) as redis:
            assert redis.ping()


def processes_in(folder: Path) -> list[tuple[int, str]]:
    """Number and command line of each process that was started with, on or in `folder`.

    Looked for in all processes of the machine: what lost its parent is what must not be missed.
    """
    found = []
    for process in psutil.process_iter():
        traces: list[str] = []
        for look in (process.cwd, process.cmdline, lambda p=process: p.environ().values()):
            try:
                seen = look()
            except (psutil.Error, OSError):
                continue
            traces += [seen] if isinstance(seen, str) else seen
        if any(str(folder) in trace for trace in traces) and not is_zombie(process):
            found.append((process.pid, command_line(process)))
    return found


def _curl(*words: str) -> str:
    done = subprocess.run(
        ["curl", "--silent", "--noproxy", "*", *words], capture_output=True, text=True, check=True
    )
    return done.stdout
