"""One recorded command, run again by the real CLI in a home of its own."""

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.recordings.recorded import FOLDER, Recording
from tests.recordings.rows import KEY

E2E = FOLDER.parent / "e2e"
PROGRAMS = E2E / "node_modules" / ".bin"
PLUGIN = E2E / "node_modules" / "@heroku" / "plugin-ai"
SWITCHBOARD = FOLDER / "switchboard.cjs"
STUB = FOLDER / "stub"
TIMEOUT_S = 180.0
HOST = "127.0.0.1:8089"
DEFAULT_ENVIRONMENT = {
    "HEROKU_HOST": f"http://{HOST}",
    "HEROKU_API_KEY": KEY,
    "HEROKU_PARTICLEBOARD_URL": "http://localhost:8089",
    "HEROKU_INFERENCE_HOST": "127.0.0.1",
    "DISABLE_TELEMETRY": "true",
    "HEROKU_SKIP_NEW_VERSION_CHECK": "true",
    "HEROKU_DISABLE_AUTOUPDATE": "true",
    "NO_COLOR": "1",
}
FILES = {"opts.json": '{"input_type":"clustering","input":["from file"]}', "bad.json": "{bad"}
# What was piped in, where that was not nothing.
PIPED = {"git-credentials": f"protocol=https\nhost={HOST}\n\n"}
# What was typed: after how many characters of a prompt does not matter, so after its first words.
LOGIN = (("Email", "dev@example.com\r"), ("Password", "secret\r"))
TYPED: dict[str, tuple[tuple[str, str], ...]] = {
    "addons-create-confirmation-required-tty": (("type myapp", "myapp\r"),),
    "addons-destroy-tty": (("type myapp", "myapp\r"),),
    "ai-docs-tty": (("q to exit", "q"),),
    "ai-models-create-confirmation-required-tty": (("type myapp", "myapp\r"),),
    "apps-destroy-tty": (("type myapp", "myapp\r"),),
    "config-edit-tty": (("(y/N)", "y\r"),),
    "keyring-login-interactive-tty": LOGIN,
    "login-browser-tty": (("q to exit", "x"),),
    "login-interactive-2fa-tty": (*LOGIN, ("Two-factor", "123456\r")),
    "login-interactive-tty": LOGIN,
    "netrc-write-login-interactive-tty": LOGIN,
    "two-factor-tty-code": (("Two-factor", "123456\r"),),
    "two-factor-tty-preauth-app": (("Two-factor", "123456\r"),),
}


@dataclass(frozen=True, kw_only=True)
class Output:
    exit_code: int
    stdout: str
    stderr: str
    requests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a lane's Annex answers, and what the CLI needs to reach it."""

    folder: Path
    ports: str  # JSON: a port of the recordings → one of this lane
    authority: Path


def prepare_homes(folder: Path) -> None:
    """Two homes: `full` has the AI plugin, `bare` has not; both have been used before."""
    for name in ("full", "bare"):
        home = folder / name
        home.mkdir()
        (home / "gitconfig").touch()
        environ = {
            **_inherited(),
            "HOME": str(home),
            "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
            "HEROKU_API_KEY": KEY,
            "DISABLE_TELEMETRY": "true",
            "HEROKU_SKIP_NEW_VERSION_CHECK": "true",
            "HEROKU_DISABLE_AUTOUPDATE": "true",
        }
        words = ["plugins:link", str(PLUGIN), "--no-install"] if name == "full" else ["plugins"]
        subprocess.run(
            [PROGRAMS / "heroku", *words], env=environ, check=True, capture_output=True, cwd=home
        )


def _inherited() -> dict[str, str]:
    # A file for git, never a device: it would rename its lock over that.
    return {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "LANG": "C.UTF-8", "TERM": "xterm"}


def run(recording: Recording, place: Place, browse: Callable[[str], None]) -> Output:
    """`browse` is called with the output when the CLI waits for what is done in a browser."""
    folder = place.folder / "command"
    shutil.rmtree(folder, ignore_errors=True)
    home = folder / "home"
    is_bare = recording.name == "ai-command-without-plugin"
    shutil.copytree(place.folder / ("bare" if is_bare else "full"), home)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    environ = _environment(recording, place, folder, home)
    script = recording.script or recording.command
    if recording.script is not None:
        environ["APP_NAME"] = "myapp"
        environ["CURL_CA_BUNDLE"] = str(place.authority)
        port = place.ports.partition('"443": ')[2].partition(",")[0].rstrip("}")
        # The weights of its second model do not come with Annex.
        script = script.replace("cohere-embed-v4", "all-minilm-l6-v2")
        script = script.replace("curl -s", f"curl -s --connect-to ::127.0.0.1:{port}")
    words = ["bash", "-c", script] if recording.script else shlex.split(script)
    if recording.has_terminal:
        return _run_in_terminal(recording.name, words, environ, folder, browse)
    done = subprocess.run(
        words,
        env=environ,
        cwd=folder,
        stdin=None if recording.name in PIPED else subprocess.DEVNULL,
        input=PIPED.get(recording.name),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Output(
        exit_code=done.returncode,
        stdout=done.stdout,
        stderr=done.stderr,
        requests=_requests(folder),
    )


def _environment(recording: Recording, place: Place, folder: Path, home: Path) -> dict[str, str]:
    environ: dict[str, str | None] = {
        **_inherited(),
        **DEFAULT_ENVIRONMENT,
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "NODE_EXTRA_CA_CERTS": str(place.authority),
        "REPLAY_PORTS": place.ports,
        "REPLAY_LOG": str(folder / "requests"),
        "SECRET_FILE": str(home / "keyring"),
    }
    options = f"--require={SWITCHBOARD}"
    for name, value in recording.environ.items():
        match name:
            case "NODE_OPTIONS":
                options += f" --require={FOLDER / 'inference_preload.cjs'}"
            case "PATH":
                environ["PATH"] = f"{STUB}:{environ['PATH']}"
                _fill_keyring(recording, home)
            case "EDITOR" | "VISUAL":
                environ[name] = str(STUB / "ed.sh")
            case "SSL_CERT_FILE":
                environ[name] = str(place.authority)
            case "GIT_CONFIG_GLOBAL" | "HEROKU_DATA_DIR" | "HEROKU_CACHE_DIR":
                _isolate(environ, name, home, recording.name)
            case "home":
                _log_in(recording, home)
            case _:
                environ[name] = value
    environ["NODE_OPTIONS"] = options
    return {name: value for name, value in environ.items() if value is not None}


def _isolate(environ: dict[str, str | None], name: str, home: Path, recording: str) -> None:
    """Folders of their own for plugins and caches; an empty one of caches is a first run."""
    if name == "HEROKU_CACHE_DIR":
        is_first = recording == "first-run-warning"
        environ[name] = str(home / ("empty-cache" if is_first else ".cache/heroku"))
    elif name == "HEROKU_DATA_DIR":
        environ[name] = str(home / ".local" / "share" / "heroku")


def _log_in(recording: Recording, home: Path) -> None:
    """The credentials that the first request had, in ~/.netrc."""
    token = _bearer(recording)
    if "PATH" in recording.environ:
        return
    host = HOST.partition(":")[0] if recording.name.endswith("without-port") else HOST
    if token or recording.name.endswith("without-port"):
        netrc = home / ".netrc"
        netrc.write_text(f"machine {host}\n  login dev@example.com\n  password {token or KEY}\n")
        netrc.chmod(0o600)


def _fill_keyring(recording: Recording, home: Path) -> None:
    """The token, and beside it, where the CLI notes it, whose it is."""
    if " login" in recording.command:
        return
    (home / "keyring").write_text(f"dev@example.com {_bearer(recording) or KEY}\n")
    state = home / ".local" / "share" / "heroku" / "login.json"
    state.write_text('{"account":"dev@example.com"}\n')


def _bearer(recording: Recording) -> str:
    if not recording.requests:
        return ""
    header = recording.requests[0].headers.get("authorization", "")
    scheme, _, token = header.partition(" ")
    return token if scheme == "Bearer" and token != "undefined" else ""


def requests_made(place: Place) -> tuple[str, ...]:
    """`METHOD PATH` of each request that the running command has made so far."""
    return _requests(place.folder / "command")


def _requests(folder: Path) -> tuple[str, ...]:
    log = folder / "requests"
    return tuple(log.read_text().splitlines()) if log.exists() else ()


def _run_in_terminal(
    name: str,
    words: list[str],
    environ: Mapping[str, str],
    folder: Path,
    browse: Callable[[str], None],
) -> Output:
    """With a terminal for everything; what was recorded as typed is typed at its prompts."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        words, env=environ, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    waiting = list(TYPED.get(name, ()))
    seen, has_browsed = "", False
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        ready, _, _ = select.select([ours], [], [], 0.2)
        if ready:
            try:
                chunk = os.read(ours, 65_536)
            except OSError:  # Linux: the other side was closed
                break
            if not chunk:
                break
            seen += chunk.decode(errors="replace")
        elif process.poll() is not None:
            break
        if waiting and waiting[0][0] in without_control(seen):
            time.sleep(0.2)
            for character in waiting.pop(0)[1]:
                os.write(ours, character.encode())
                time.sleep(0.02)
        if not has_browsed and "Waiting for login" in seen:
            has_browsed = True
            browse(without_control(seen))
    else:
        process.kill()
    os.close(ours)
    return Output(exit_code=process.wait(10), stdout=seen, stderr="", requests=_requests(folder))


_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78]|\x07|\x08")


def without_control(text: str) -> str:
    return _CONTROL.sub("", text)
