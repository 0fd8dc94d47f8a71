"""What the real Heroku CLI was recorded to send, get and print: cli/*.json, one file a command."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
FILES = FOLDER / "cli"
# Read-only requests that are sent by POST.
RESOLVERS = ("/actions/addons/resolve", "/actions/addon-attachments/resolve")
INFERENCE_HOSTS = (
    "inference host (https 443)",
    "inference.example.test",
    "us.inference.heroku.com",
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request of the CLI, and what the stub answered. `to`: whom the CLI took it for."""

    to: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    status: int
    answer: Any

    @property
    def is_write(self) -> bool:
        return self.method != "GET" and self.path not in RESOLVERS

    @property
    def is_inference(self) -> bool:
        return self.to in INFERENCE_HOSTS or self.path.startswith(
            ("/v1/", "/models/", "/available-models")
        )


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One command. `environ`: what differed from the default environment, None for unset.

    Of a terminal everything is in `stdout`, with the prompts as they were typed at.
    """

    name: str
    command: str
    script: str | None
    environ: Mapping[str, str | None]
    exit_code: int
    stdout: str
    stderr: str
    requests: tuple[Request, ...]
    note: str

    @property
    def has_terminal(self) -> bool:
        return "-tty" in self.name and "no-tty" not in self.name


def names() -> list[str]:
    return sorted(path.stem for path in FILES.glob("*.json"))


def read_recording(name: str) -> Recording:
    data = json.loads((FILES / f"{name}.json").read_text())
    return Recording(
        name=name,
        command=data["command"],
        script=data.get("script"),
        environ=data["env_differs_from_default"],
        exit_code=data["exit_code"],
        stdout=data["stdout"],
        stderr=data["stderr"],
        requests=tuple(map(_request, data["requests"])),
        note=data["note"] or "",
    )


def _request(data: Mapping[str, Any]) -> Request:
    response = data["response"]
    return Request(
        to=data["to"],
        method=data["method"],
        path=data["path"],
        headers=data["headers"],
        body=data["body"],
        status=response["status"],
        answer=_parse(response["body"]),
    )


def _parse(body: Any) -> Any:
    """JSON that was sent as something else was recorded as text."""
    is_json = isinstance(body, str) and body.startswith(("{", "["))
    return json.loads(body) if is_json else body


_PLACES = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "{id}"),
    (re.compile(r"(?<=^/apps/)[^/]+"), "{app}"),
    (re.compile(r"(?<=/addons/)[^/]+"), "{addon}"),
    (re.compile(r"(?<=/addon-services/)[^/]+"), "{service}"),
    (re.compile(r"(?<=/addon-attachments/)(?!resolve)[^/]+"), "{attachment}"),
    (re.compile(r"(?<=/releases/)[^/]+"), "{release}"),
    (re.compile(r"(?<=/collaborators/)[^/]+"), "{account}"),
    (re.compile(r"(?<=/auth/cli/)[^/]+"), "{login}"),
    (re.compile(r"(?<=/teams/)[^/]+"), "{team}"),
)


def template(method: str, path: str) -> str:
    """`GET /apps/{app}/addons`: the request without whom it is about."""
    for pattern, place in _PLACES:
        path = pattern.sub(place, path)
    return f"{method} {path}"
