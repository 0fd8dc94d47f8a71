"""The real Heroku CLI, pointed at a running Annex by the lines that `make up` prints."""

import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.annex import ROOT, plain_environment

PROGRAMS = Path(__file__).parent / "node_modules" / ".bin"
COMMAND_TIMEOUT_S = 90.0
AT_ONCE = 2  # each takes a second of a processor
# Colours, what moves the cursor, and the marks at the start of an error's line and of a name.
DECORATION = re.compile(
    "\x1b\\[[0-9;?]*[A-Za-z]|\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}|\N{BLACK HEXAGON} "
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a person sees: all lines, with their breaks and colours taken out."""

    status: int
    stdout: str
    seen: str


class HerokuCli:
    """`heroku`, or another program in its place, with a home folder of its own, so that nothing of
    the user's is read or written."""

    def __init__(self, exports: Mapping[str, str], home: Path, program: str = "heroku") -> None:
        self.exports = dict(exports)
        self._program = program
        # No repository: the CLI would note apps as its remotes, and take one of them for each
        # command that names none.
        self._folder = home
        # A file: git would rename its lock over a device such as /dev/null.
        git_config = home / "gitconfig"
        git_config.touch()
        self.env = plain_environment(**exports)
        self.env |= {
            "HOME": str(home),
            "GIT_CONFIG_GLOBAL": str(git_config),
            "PATH": f"{PROGRAMS}:{self.env['PATH']}",
            "NO_PROXY": "127.0.0.1,localhost",
            "NO_COLOR": "1",
        }

    def try_(self, *words: str) -> Answer:
        """Run `heroku WORDS`, whatever comes of it."""
        return self._answer([self._program, *words], self._folder)

    def __call__(self, *words: str) -> Answer:
        """Run `heroku WORDS`, which must succeed."""
        answer = self.try_(*words)
        assert answer.status == 0, f"heroku {' '.join(words)}: {answer.seen}"
        return answer

    def each(self, *commands: Sequence[str]) -> list[Answer]:
        """Run several, none of which waits for another; all must succeed."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda words: self(*words), commands))

    def in_terminal(
        self, *words: str, answers: Sequence[tuple[str, str]], **environ: str
    ) -> Answer:
        """Run `heroku WORDS` in a terminal; an answer is a prompt to wait for, and what to type."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [self._program, *words],
            cwd=self._folder,
            env=self.env | environ,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            shown, unanswered = "", list(answers)
            deadline = time.monotonic() + COMMAND_TIMEOUT_S
            while chunk := _read(ours, deadline):
                shown += chunk
                if unanswered and unanswered[0][0] in _as_seen(0, shown, "").seen:
                    os.write(ours, unanswered.pop(0)[1].encode())
            if time.monotonic() > deadline:
                process.kill()
            os.close(ours)
        assert not unanswered, f"no {unanswered[0][0]!r} in: {shown}"
        return _as_seen(process.returncode, shown, "")

    def shell(self, *lines: str) -> Answer:
        """Paste lines into a shell."""
        answer = self._answer(["bash", "-e", "-c", "\n".join(lines)], ROOT)
        assert answer.status == 0, answer.seen
        return answer

    def config(self, app: str) -> dict[str, str]:
        config: dict[str, str] = json.loads(self("config", "--app", app, "--json").stdout)
        return config

    def _answer(self, command: list[str], folder: Path) -> Answer:
        done = subprocess.run(
            command,
            cwd=folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return _as_seen(done.returncode, done.stdout, done.stderr)


def _as_seen(status: int, stdout: str, stderr: str) -> Answer:
    seen = DECORATION.sub("", stdout + stderr)
    return Answer(status=status, stdout=stdout, seen=re.sub(r"\s+", " ", seen).strip())


def _read(terminal: int, deadline: float) -> str:
    """What a program shows next; nothing when it has ended, or it is too late."""
    ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        return ""
    try:
        return os.read(terminal, 65_536).decode(errors="replace")
    except OSError:  # Linux says so when the other end is closed
        return ""


def curl(*words: str) -> tuple[int, dict[str, str], Any]:
    """Run curl; returns status, headers (lower case) and the JSON body."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--include", "--noproxy", "*", *words],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=True,
    )
    head, _, body = done.stdout.replace("\r\n", "\n").rpartition("\n\n")
    first, *rest = head.splitlines()
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
    return int(first.split()[1]), headers, json.loads(body)
