"""The embedded PostgreSQL and Valkey: they start, keep their data, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # publishes no type information
import psycopg
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from config.embedded_servers import (
    SOCKET_PATH_MAX_BYTES,
    Addresses,
    EmbeddedServerFailed,
    Valkey,
    running_servers,
)
from config.guard import Guard

ROOT = Path(__file__).resolve().parents[2]
# Runs both servers in a folder until it is killed.
RUN_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from config.embedded_servers import running_servers
with running_servers(Path(sys.argv[1])) as addresses:
    print(addresses.database_url, addresses.redis_url, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not tmp_path: its folders are too deep for a socket's path, which is a test of its own."""
    with tempfile.TemporaryDirectory(prefix="annex-") as path:
        yield Path(path)


def processes_in(folder: Path) -> list[str]:
    """The command lines of living processes that name the folder."""
    lines = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            lines.append(line)
    return lines


def use(addresses: Addresses) -> tuple[int, bytes | None]:
    """Write a row and a key; returns how many rows there are, and what the key was before."""
    with psycopg.connect(addresses.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS rows (id serial)")
        connection.execute("INSERT INTO rows DEFAULT VALUES")
        row = connection.execute("SELECT count(*) FROM rows").fetchone()
    with Redis.from_url(addresses.redis_url) as redis:
        before = redis.getset("key", "value")
    assert row is not None
    return int(row[0]), before if isinstance(before, bytes | None) else None


def test_both_keep_their_data_and_leave_nothing_running(folder: Path) -> None:
    with running_servers(folder) as addresses:
        assert use(addresses) == (1, None)
        assert processes_in(folder)
    assert processes_in(folder) == []
    with running_servers(folder) as addresses:
        assert use(addresses) == (2, b"value")


def test_they_end_with_the_process_that_started_them_and_start_again(folder: Path) -> None:
    command = [sys.executable, "-c", RUN_UNTIL_KILLED, str(folder)]
    owner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    database_url, redis_url = owner.stdout.readline().split()
    assert use(Addresses(database_url=database_url, redis_url=redis_url)) == (1, None)
    owner.kill()
    owner.communicate()
    deadline = time.monotonic() + 10
    while processes_in(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_in(folder) == []
    with running_servers(folder) as addresses:
        assert use(addresses) == (2, b"value")


def test_servers_that_were_killed_start_again(folder: Path) -> None:
    with running_servers(folder) as addresses:
        use(addresses)
        pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        os.kill(int((folder / "valkey" / "valkey.pid").read_text()), signal.SIGKILL)
    with running_servers(folder) as addresses:
        assert use(addresses)[0] == 2


def test_a_pid_file_that_names_somebody_else_is_no_obstacle(folder: Path) -> None:
    with running_servers(folder):
        pass
    # After a reboot, a leftover pid may belong to any program: here to this one.
    (folder / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{folder}\n")
    (folder / "valkey" / "valkey.pid").write_text(f"{os.getpid()}\n")
    with running_servers(folder) as addresses:
        use(addresses)


def test_a_cluster_that_initdb_did_not_finish_is_made_anew(folder: Path) -> None:
    unfinished = folder / "postgres.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with running_servers(folder) as addresses:
        assert use(addresses)[0] == 1
    assert not unfinished.exists()


@pytest.mark.parametrize("looks_before_its_end", range(6))
def test_a_program_whose_end_is_waited_for_may_end_between_two_looks(
    folder: Path, looks_before_its_end: int
) -> None:
    """initdb, which was then called a server that has ended."""

    class Program(subprocess.Popen[bytes]):
        looks = 0

        def __init__(self) -> None:
            self.returncode = 0

        def poll(self) -> int | None:
            self.looks += 1
            return 0 if self.looks > looks_before_its_end else None

    guard, program = Guard(), Program()
    try:
        server = Valkey(folder, guard, durable=False)
        server._wait_until(lambda: program.poll() == 0, program, 0)
    finally:
        guard.release()


def test_a_cluster_of_another_version_is_named(folder: Path) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "PG_VERSION").write_text("16\n")
    with (
        pytest.raises(EmbeddedServerFailed, match="made by PostgreSQL 16"),
        running_servers(folder),
    ):
        pass
    assert processes_in(folder) == []


def test_a_deep_folder_with_an_odd_name_works(folder: Path) -> None:
    deep = folder / "with, a comma and spaces" / ("x" * SOCKET_PATH_MAX_BYTES)
    with running_servers(deep, durable=False) as addresses:
        assert use(addresses)[0] == 1


def test_valkey_wants_the_password(folder: Path) -> None:
    with running_servers(folder, durable=False) as addresses:
        address = addresses.redis_url.rpartition("@")[2]
        with Redis.from_url(f"redis://{address}") as redis, pytest.raises(AuthenticationError):
            redis.ping()
        with Redis.from_url(addresses.redis_url) as redis:
            assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_nobody_else_may_enter_the_folders(folder: Path) -> None:
    with running_servers(folder, durable=False):
        for path in (folder / "postgres", folder / "valkey"):
            assert path.stat().st_mode & 0o077 == 0
        for path in (folder / "postgres.log", folder / "valkey" / "valkey.conf"):
            assert path.stat().st_mode & 0o077 == 0
