"""The real Heroku CLI, pointed at a running Annex by the lines that `make up` prints."""

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.annex import plain_environment

PROGRAMS = Path(__file__).parent / "node_modules" / ".bin"
COMMAND_TIMEOUT_S = 90.0
# Colours, and the mark at the start of each line of an error.
DECORATION = re.compile("\x1b\\[[0-9;]*m|\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a person sees: all lines, with their breaks and colours taken out."""

    status: int
    stdout: str
    seen: str


class HerokuCli:
    """`heroku` with a home folder of its own, so that nothing of the user's is read or written."""

    def __init__(self, exports: Mapping[str, str], home: Path) -> None:
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
        return self._answer(["heroku", *words])

    def __call__(self, *words: str) -> Answer:
        """Run `heroku WORDS`, which must succeed."""
        answer = self.try_(*words)
        assert answer.status == 0, f"heroku {' '.join(words)}: {answer.seen}"
        return answer

    def shell(self, *lines: str) -> Answer:
        """Paste lines into a shell."""
        answer = self._answer(["bash", "-e", "-c", "\n".join(lines)])
        assert answer.status == 0, answer.seen
        return answer

    def config(self, app: str) -> dict[str, str]:
        config: dict[str, str] = json.loads(self("config", "--app", app, "--json").stdout)
        return config

    def _answer(self, command: list[str]) -> Answer:
        done = subprocess.run(
            command,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        seen = DECORATION.sub("", done.stdout + done.stderr)
        return Answer(
            status=done.returncode, stdout=done.stdout, seen=re.sub(r"\s+", " ", seen).strip()
        )


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
