"""Owns `make up`: everything that Annex needs, started in order, shown, and stopped again.

Run as `python -m config.up`. Nothing that it starts outlives it: Ctrl-C, SIGTERM and SIGHUP stop
the processes, then Valkey, then PostgreSQL; a guard does so if this process is killed.
"""

import fcntl
import http.client
import json
import logging
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EADDRINUSE, ENOSPC
from pathlib import Path
from types import FrameType
from typing import NoReturn

from config import var_environment
from config.embedded_servers import EmbeddedServerFailed, EmbeddedServers, free_port
from config.guard import Guard
from config.heroku_env import as_shell_line, heroku_env
from config.processes import Processes, read_procfile

ROOT = Path(__file__).resolve().parent.parent
DISK_NEEDED_MB = 300
DISK_FULL_MB = 10
SAY_WHY_IT_TAKES_SO_LONG_AFTER_S = 60.0
STEPS = 6
# Ctrl-C, a service manager, a closed terminal.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CannotStart(Exception):
    """What the user has to know and can do something about, in one line."""


class Stopped(BaseException):
    """A stop signal came; a BaseException, so that no handler of errors takes it for one."""


@dataclass(frozen=True, kw_only=True)
class FirstAccount:
    """The account whose key is printed, and what else the last lines say."""

    email: str
    api_key: str
    app_name: str
    operator_password: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where this Annex lives and listens."""

    var: Path
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def probe_host(self) -> str:
        return "127.0.0.1" if self.host in {"0.0.0.0", "::", "localhost"} else self.host  # noqa: S104 - a comparison


def main() -> int:
    try:
        _raise_on_stop_signals()
        _run(find_place(os.environ))
    except Stopped:
        _ignore_stop_signals()
        _say("Annex has stopped.")
        return 0
    except (CannotStart, EmbeddedServerFailed) as error:
        print(f"Annex: {error}", file=sys.stderr)
    except OSError as error:
        print(f"Annex: {_explain(error)}", file=sys.stderr)
    return 1


def _run(place: Place) -> NoReturn:
    with _only_one(place.var):
        _require_free_port(place)
        _require_disk(place.var)
        _serve(place)


def _serve(place: Place) -> NoReturn:
    """Start everything, say how to use it, and pump lines until a signal or a death."""
    guard = Guard()
    secrets = var_environment.keep_secrets(place.var)
    servers = EmbeddedServers(
        place.var,
        guard,
        database_url=os.environ.get("DATABASE_URL"),
        redis_url=os.environ.get("REDIS_URL"),
    )
    processes = Processes(guard, place.var / "annex.log")
    try:
        _step(1, "PostgreSQL and Valkey" if servers.names else "DATABASE_URL and REDIS_URL")
        servers.begin()
        _export(place, secrets, servers)
        servers.wait_for_redis()
        _require_redis()
        # The model takes longest to be ready and needs no database, so it loads meanwhile.
        _start(processes, "gpu")
        servers.wait_for_database()
        account = _prepare_database(os.environ.get("ACCOUNT_EMAIL") or "dev@example.com")
        _step(5, "Processes")
        _start(processes, "web")
        # Not in the Procfile: only a user of this machine's CLI has a use for it.
        processes.start("proxy", "python -m config.cli_proxy", os.environ, ROOT)
        _step(6, "Waiting for the web process and the model")
        _wait_until_ready(place, processes, servers)
        # No request waits for these two, and their start would hold up those that do.
        for name in ("worker", "beat"):
            _start(processes, name)
        _write_environment(place, secrets, account)
        _say(_how_to_use(place, account))
        processes.show()
        while True:
            processes.pump(1.0)
            _require_alive(processes, servers)
    finally:
        _stop(processes, servers, guard)


def _stop(processes: Processes, servers: EmbeddedServers, guard: Guard) -> None:
    _ignore_stop_signals()
    _say("Stopping …")
    try:
        # The web process finishes the requests it has, for which it needs the gpu process.
        processes.stop(first={"web"})
    finally:
        servers.stop()
    guard.release()  # not if stopping failed: then the guard has to do it


def find_place(environ: Mapping[str, str]) -> Place:
    port = environ.get("PORT") or "5000"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise CannotStart(f"PORT must be a number from 1 to 65535, not {port!r}.")
    return Place(
        var=Path(environ.get("VAR_DIR") or ROOT / "var").resolve(),
        host=environ.get("HOST") or "127.0.0.1",
        port=int(port),
    )


@contextmanager
def _only_one(var: Path) -> Iterator[None]:
    """Hold var/up.lock, so that a second `make up` in the same folder refuses to start."""
    var.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (var / "up.lock").open("a+") as lock:
        try:
            # A record lock: it is let go when this process dies, and no child inherits it.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CannotStart(
                f"already running in this folder (process {lock.read().strip() or 'unknown'}): "
                "stop it with Ctrl-C where it runs, or with kill."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _require_free_port(place: Place) -> None:
    for host in dict.fromkeys(("127.0.0.1", place.host)):
        try:
            _try_port(host, place.port)
        except OSError as error:
            if error.errno == EADDRINUSE:
                raise CannotStart(
                    f"port {place.port} is taken by another program. "
                    f"Choose another: PORT={place.port + 1} make up"
                ) from None
            raise CannotStart(f"cannot listen on {host}:{place.port}: {error.strerror}") from None


def _try_port(host: str, port: int) -> None:
    """Raise OSError if nothing could listen there, or something does."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)


def _require_disk(var: Path) -> None:
    free_mb = _free_mb(var)
    if free_mb < DISK_NEEDED_MB:
        raise CannotStart(
            f"the disk is full: {var} needs {DISK_NEEDED_MB} MB to start, {free_mb} MB are free."
        )


def _blame_full_disk(var: Path) -> None:
    """Raise CannotStart if a full disk is behind a failure, which then has many faces."""
    free_mb = _free_mb(var)
    if free_mb < DISK_FULL_MB:
        raise CannotStart(f"the disk is full: {free_mb} MB are free in {var}.")


def _free_mb(var: Path) -> int:
    return shutil.disk_usage(var).free // 1_000_000


def _export(place: Place, secrets: Mapping[str, str], servers: EmbeddedServers) -> None:
    """Set what settings and the processes read; what the user has set stays."""
    for name, value in secrets.items():
        os.environ.setdefault(name, value)
    os.environ["VAR_DIR"] = str(place.var)
    os.environ["PORT"] = str(place.port)
    os.environ["HOST"] = place.host
    os.environ["CLI_PROXY_PORT"] = str(free_port())
    os.environ["DATABASE_URL"] = servers.addresses.database_url
    os.environ["REDIS_URL"] = servers.addresses.redis_url
    os.environ["PYTHONUNBUFFERED"] = "1"  # or a process that dies takes its last lines with it
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


def _require_redis() -> None:
    from redis import Redis, RedisError

    try:
        with Redis.from_url(os.environ["REDIS_URL"], socket_connect_timeout=5) as redis:
            redis.ping()
    except (RedisError, ValueError) as error:
        raise CannotStart(f"REDIS_URL does not work: {_first_line(error)}") from error


def _prepare_database(email: str) -> FirstAccount:
    """Migrations, catalogue and plans, the first account, the operator."""
    # Imported here: Django takes half a second, in which the servers start.
    import django
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import CommandError
    from django.db import Error

    from addon.manifest import InvalidManifest

    try:
        django.setup()
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # each attempt is a warning
        return _fill_database(email)
    except Error as error:
        _blame_full_disk(Path(os.environ["VAR_DIR"]))
        raise CannotStart(f"the database does not work: {_first_line(error)}") from error
    except (CommandError, ImproperlyConfigured, InvalidManifest, ValueError) as error:
        # ValueError: what environs and dj_database_url raise for a variable they cannot read.
        raise CannotStart(f"the settings do not work: {_first_line(error)}") from error


def _fill_database(email: str) -> FirstAccount:
    from cryptography.fernet import InvalidToken
    from django.core.management import call_command
    from django.db import connections

    from addon.platform.accounts import InvalidEmail
    from config import first_account

    _step(2, "Migrations")
    call_command("migrate", verbosity=0, interactive=False)
    _step(3, "Catalogue and plans")
    call_command("sync_catalogue", verbosity=0)
    _step(4, f"First account ({email}) and operator")
    try:
        first_account.check_encryption_keys()
        password = os.environ["OPERATOR_PASSWORD"]
        is_current = first_account.ensure_operator(password)
        api_key = first_account.ensure_account(email, os.environ["ACCOUNT_API_KEY"])
        app_name = first_account.free_app_name("shop")
    except InvalidEmail as error:
        raise CannotStart(f"ACCOUNT_EMAIL: {error}.") from None
    except InvalidToken:
        raise CannotStart(
            "ENCRYPTION_KEYS are not those that the database was written with."
        ) from None
    connections.close_all()
    return FirstAccount(
        email=email,
        api_key=api_key,
        app_name=app_name,
        operator_password=f"password {password}" if is_current else "with the password you set",
    )


def _start(processes: Processes, name: str) -> None:
    processes.start(name, read_procfile(ROOT / "Procfile")[name], os.environ, ROOT)


def _wait_until_ready(place: Place, processes: Processes, servers: EmbeddedServers) -> None:
    """Return when a web process answers and a worker has a model loaded."""
    ready = threading.Event()
    probe = threading.Thread(target=_probe, args=(place, ready), daemon=True)
    probe.start()
    started_at = time.monotonic()
    patience_s = SAY_WHY_IT_TAKES_SO_LONG_AFTER_S
    while not ready.is_set():
        processes.pump(0.05)
        _require_alive(processes, servers)
        if time.monotonic() - started_at > patience_s:
            patience_s += SAY_WHY_IT_TAKES_SO_LONG_AFTER_S
            _say(f"Still waiting after {time.monotonic() - started_at:.0f} s: see {processes.log}")


def _probe(place: Place, ready: threading.Event) -> None:
    """Ask GET /healthz until it tells of a worker; http.client, because it knows no proxies."""
    while not ready.is_set():
        connection = http.client.HTTPConnection(place.probe_host, place.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            response = connection.getresponse()
            body = json.loads(response.read()) if response.status == 200 else {}
        except (OSError, http.client.HTTPException, ValueError):
            body = {}
        finally:
            connection.close()
        if any(model["workers"] > 0 for model in body.get("models", {}).values()):
            ready.set()
        time.sleep(0.1)


def _require_alive(processes: Processes, servers: EmbeddedServers) -> None:
    server = servers.find_ended()
    if server is not None:
        raise CannotStart(
            f"{server.name} has ended, so everything is stopped; its log is {server.log}"
        )
    ended = processes.find_ended()
    if ended is None:
        return
    _blame_full_disk(processes.log.parent)
    name, status = ended
    for line in processes.last_lines(name):
        print(f"{name} | {line}", file=sys.stderr)
    raise CannotStart(
        f"the process {name} has ended with status {status}, so everything is stopped; "
        f"its lines are in {processes.log}"
    )


def _write_environment(place: Place, secrets: Mapping[str, str], account: FirstAccount) -> None:
    """Leave what `./manage.py` in a second terminal and `make demo` need."""
    addresses = ("DATABASE_URL", "REDIS_URL", "PORT", "PUBLIC_URL", "CLI_PROXY_PORT")
    # From the environment: what the user has set is what the database is written with.
    values = {name: os.environ[name] for name in (*secrets, *addresses) if name in os.environ}
    values.update(
        ACCOUNT_EMAIL=account.email, HEROKU_HOST=place.url, HEROKU_API_KEY=account.api_key
    )
    var_environment.write(place.var, values)


def _how_to_use(place: Place, account: FirstAccount) -> str:
    """What is printed when all is ready; its last three lines are there to be pasted."""
    app = account.app_name
    plan = f"{os.environ.get('ADDON_SERVICE_NAME') or 'heroku-inference'}:standard"
    return f"""
Annex is ready at {place.url} (Ctrl-C stops it).
Operator: {place.url}/admin/ as `operator`, {account.operator_password}
Paste into a second terminal, where the Heroku CLI is (npm install --global heroku):

{as_shell_line(heroku_env(place.url, account.api_key), place.var)}
heroku apps:create {app} && heroku addons:create {plan} -a {app} --as EMBEDDING
curl $(heroku config:get EMBEDDING_URL -a {app})/v1/embeddings -H "Authorization: Bearer \
$(heroku config:get EMBEDDING_KEY -a {app})" -d '{{"model":"all-minilm-l6-v2","input":"Hello"}}'
"""


def _step(number: int, what: str) -> None:
    _say(f"[{number}/{STEPS}] {what}")


def _say(line: str) -> None:
    """Print, unless the terminal was closed meanwhile: nobody is there, and stopping goes on."""
    try:
        print(line, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the rest of the process


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _explain(error: OSError) -> str:
    if error.errno == ENOSPC:
        return f"the disk is full{f' ({error.filename})' if error.filename else ''}."
    if isinstance(error, PermissionError):
        return f"may not use {error.filename}: does it belong to another user, such as root?"
    return f"cannot use {error.filename or 'the disk'}: {error.strerror or error}."


def _raise_on_stop_signals() -> None:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        _ignore_stop_signals()
        # What is raised while the interpreter collects garbage is lost, so until the stopping
        # begins it is raised again.
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        raise Stopped

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    # bin/install.py holds them back until there are these handlers.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _ignore_stop_signals() -> None:
    """One signal is enough; a second one must not interrupt the stopping, which has its limits."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (*STOP_SIGNALS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
