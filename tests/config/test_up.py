"""`make up`: what it refuses in one line, before anything is started, and what it generates."""

import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from config import up, var_environment
from config.up import CannotStart

ROOT = Path(__file__).resolve().parents[2]
DiskUsage = namedtuple("DiskUsage", "total used free")


def run_up(var: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """`python -m config.up`, as make runs it, without what the tests have set."""
    env = {"PATH": os.environ["PATH"], "VAR_DIR": str(var), **environ}
    return subprocess.run(
        [sys.executable, "-m", "config.up"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_taken_port_gets_one_line_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_up(tmp_path, PORT=str(port))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"Annex: port {port} is taken by another program. Choose another: PORT={port + 1} make up"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["up.lock"]


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
def test_a_port_that_is_none_gets_one_line(tmp_path: Path, port: str) -> None:
    done = run_up(tmp_path, PORT=port)
    assert done.returncode == 1
    assert done.stderr == f"Annex: PORT must be a number from 1 to 65535, not '{port}'.\n"


def test_a_redis_that_does_not_answer_gets_one_line(tmp_path: Path) -> None:
    done = run_up(
        tmp_path, PORT=str(free_port()), REDIS_URL="redis://127.0.0.1:1/0", DATABASE_URL="x"
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("Annex: REDIS_URL does not work: ")


def test_a_full_disk_is_refused_with_what_is_needed_and_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(10**12, 0, 12_000_000))
    with pytest.raises(CannotStart) as refused:
        up._require_disk(tmp_path)
    assert "needs 300 MB to start, 12 MB are free" in str(refused.value)


def test_a_disk_that_fills_up_gets_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(place: object) -> None:
        raise OSError(28, "No space left on device", "var/environment")

    monkeypatch.setattr(up, "_run", full)
    monkeypatch.setattr(up, "_raise_on_stop_signals", lambda: None)
    monkeypatch.setenv("PORT", "5000")
    assert up.main() == 1
    assert capsys.readouterr().err == "Annex: the disk is full (var/environment).\n"


def test_a_second_one_in_the_same_folder_names_the_first(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from config import up\n"
            "with up._only_one(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)",
            str(tmp_path),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        done = run_up(tmp_path, PORT=str(free_port()))
    finally:
        holder.kill()
        holder.communicate()
    assert done.returncode == 1
    assert f"already running in this folder (process {holder.pid})" in done.stderr
    # Killed, it leaves its number in the file, but not the lock.
    with up._only_one(tmp_path):
        assert (tmp_path / "up.lock").read_text() == str(os.getpid())


def test_secrets_are_made_once_and_kept_for_the_user_only(tmp_path: Path) -> None:
    first = var_environment.keep_secrets(tmp_path)
    assert (tmp_path / "environment").stat().st_mode & 0o777 == 0o600
    var_environment.write(tmp_path, {**first, "PORT": "5001"})
    assert var_environment.keep_secrets(tmp_path) == first
    assert var_environment.read(tmp_path) == {**first, "PORT": "5001"}
    assert set(first) == {
        "SECRET_KEY",
        "ENCRYPTION_KEYS",
        "PROVIDER_PASSWORD",
        "SSO_SALT",
        "PROVIDER_WEBHOOK_SECRET",
        "INVOICE_SIGNING_KEY",
        "OPERATOR_PASSWORD",
        "ACCOUNT_API_KEY",
    }


def test_a_full_disk_leaves_the_secrets_that_were_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = var_environment.keep_secrets(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        var_environment.write(tmp_path, {"PORT": "1"})
    assert var_environment.read(tmp_path) == first


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
