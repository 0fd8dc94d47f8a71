"""The suite plays the platform: a small HTTP server for what a provider calls back.

`POST /oauth/token`; below `/addons/:uuid`, with the access token of that add-on: the add-on itself,
`config`, `actions/provision`, `actions/deprovision` and `addon-attachments`. What came is kept.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

GRANT_LIFETIME = timedelta(minutes=5)
TOKEN_LIFETIME_S = 28_800
BODY_MAX_BYTES = 1_000_000


class CannotListen(Exception):
    """The address of the stand-in is taken or not of this machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Callback:
    """One request of the provider: `kind` is token, config, provision, deprovision or info."""

    kind: str
    status: int
    body: Mapping[str, object] = field(default_factory=dict, repr=False)
    problem: str = ""


@dataclass(kw_only=True)
class OrderedAddon:
    """What the suite ordered under a uuid, as the platform has it."""

    uuid: str
    name: str
    plan: str
    code: str = field(repr=False)
    expires_at: datetime
    access_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    refresh_token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    config: dict[str, str] = field(default_factory=dict, repr=False)
    state: str = "provisioning"
    configs_to_refuse: int = 0
    callbacks: list[Callback] = field(default_factory=list)

    def of_kind(self, kind: str, *, after: int = 0) -> list[Callback]:
        return [call for call in self.callbacks[after:] if call.kind == kind]

    def accepted(self, kind: str, *, after: int = 0) -> list[Callback]:
        return [call for call in self.of_kind(kind, after=after) if 200 <= call.status < 300]


class PlatformServer:
    """Listens from `start` to `stop`. `url` is where the provider reaches it."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        service_name: str,
        config_vars: tuple[str, ...],
        client_secret: str | None,
        public_url: str | None = None,
    ) -> None:
        self.service_name = service_name
        self.config_vars = config_vars
        self.client_secret = client_secret
        self._changed = threading.Condition()
        self._addons: dict[str, OrderedAddon] = {}
        handler = type("Handler", (_Handler,), {"platform": self})
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise CannotListen(f"{host}:{port}: {error.strerror}") from None
        self.url = (public_url or f"http://{host}:{self._server.server_port}").rstrip("/")
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def ordered(self, uuid: str, name: str, plan: str) -> OrderedAddon:
        """The add-on of that uuid, with a grant for it."""
        with self._changed:
            addon = self._addons.get(uuid)
            if addon is None:
                addon = OrderedAddon(
                    uuid=uuid,
                    name=name,
                    plan=plan,
                    code=secrets.token_hex(16),
                    expires_at=datetime.now(UTC) + GRANT_LIFETIME,
                )
                self._addons[uuid] = addon
            return addon

    def wait(self, is_met: Callable[[], bool], timeout_s: float) -> bool:
        """Whether callbacks made `is_met` true in that time."""
        with self._changed:
            return self._changed.wait_for(is_met, timeout_s)

    def find_by_code(self, code: str) -> OrderedAddon | None:
        return self._find(lambda addon: secrets.compare_digest(addon.code, code))

    def find_by_refresh_token(self, token: str) -> OrderedAddon | None:
        return self._find(lambda addon: secrets.compare_digest(addon.refresh_token, token))

    def find(self, uuid: str) -> OrderedAddon | None:
        return self._addons.get(uuid)

    def _find(self, is_it: Callable[[OrderedAddon], bool]) -> OrderedAddon | None:
        with self._changed:
            return next((addon for addon in self._addons.values() if is_it(addon)), None)

    def note(self, addon: OrderedAddon, callback: Callback) -> None:
        with self._changed:
            addon.callbacks.append(callback)
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A provider that hung up: the checks see what did not come."""


class _Handler(BaseHTTPRequestHandler):
    platform: PlatformServer
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        received = self._read_body()
        parts = urlsplit(self.path)
        if parts.path == "/oauth/token":
            self._exchange({**dict(parse_qsl(parts.query)), **self._fields(received)})
            return
        match parts.path.strip("/").split("/"):
            case ["addons", uuid, *rest]:
                self._addon(uuid, "/".join(rest), received)
            case _:
                self._answer(404, {"id": "not_found", "message": "The suite has no such endpoint."})

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815 - the base class's

    def log_message(self, template: str, *args: object) -> None:
        """Quiet: what came is in the callbacks."""

    def _read_body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(min(length, BODY_MAX_BYTES))

    def _fields(self, received: bytes) -> dict[str, str]:
        if "json" in self.headers.get("Content-Type", ""):
            fields = _json(received)
            return {name: str(value) for name, value in fields.items()}
        return dict(parse_qsl(received.decode(errors="replace")))

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _exchange(self, fields: Mapping[str, str]) -> None:
        grant_type = fields.get("grant_type", "")
        if grant_type == "refresh_token":
            addon = self.platform.find_by_refresh_token(fields.get("refresh_token", ""))
        else:
            addon = self.platform.find_by_code(fields.get("code", ""))
        if addon is None:
            self._answer(400, {"error": "invalid_grant"})
            return
        problem = self._problem_of(fields, addon)
        status = 400 if problem else 200
        self.platform.note(
            addon, Callback(kind="token", status=status, body=dict(fields), problem=problem)
        )
        self._answer(status, {"error": "invalid_request"} if problem else _tokens(addon))

    def _problem_of(self, fields: Mapping[str, str], addon: OrderedAddon) -> str:
        expected, secret = self.platform.client_secret, fields.get("client_secret", "")
        if fields.get("grant_type") not in {"authorization_code", "refresh_token"}:
            return "grant_type was not authorization_code"
        if not secret:
            return "client_secret was missing"
        if expected is not None and not secrets.compare_digest(secret.encode(), expected.encode()):
            return "client_secret was not that of --client-secret"
        if fields["grant_type"] == "authorization_code" and datetime.now(UTC) > addon.expires_at:
            return "the grant was exchanged after its five minutes"
        return ""

    def _addon(self, uuid: str, what: str, received: bytes) -> None:
        addon = self.platform.find(uuid)
        if addon is None:
            self._answer(404, {"id": "not_found", "message": "There is no such add-on."})
            return
        match (self.command, what):
            case ("PATCH", "config"):
                kind = "config"
            case ("POST", "actions/provision"):
                kind = "provision"
            case ("POST", "actions/deprovision"):
                kind = "deprovision"
            case _:
                kind = "info"
        body = _json(received)
        status, problem = self._judge(kind, addon, body)
        answer: object = {"id": "refused", "message": problem} if problem else None
        if answer is None:
            answer = self._carry_out(kind, addon, what, body)
        # Before the answer: what the provider sends after it must not be noted before it.
        self.platform.note(addon, Callback(kind=kind, status=status, body=body, problem=problem))
        self._answer(status, answer)

    def _judge(self, kind: str, addon: OrderedAddon, body: Mapping[str, object]) -> tuple[int, str]:
        expected = f"Bearer {addon.access_token}"
        given = self.headers.get("Authorization", "")
        if not secrets.compare_digest(given.encode(), expected.encode()):
            return 401, "it was sent without the add-on's access token"
        if addon.state == "deprovisioned":
            return 410, "the add-on is gone"
        if kind == "config":
            return self._judge_config(addon, body)
        return 200, ""

    def _judge_config(self, addon: OrderedAddon, body: Mapping[str, object]) -> tuple[int, str]:
        rows = body.get("config")
        if not isinstance(rows, list) or not all(map(_is_row, rows)):
            return 422, 'config was not a list of {"name": "…", "value": "…"}'
        undeclared = sorted({row["name"] for row in rows} - set(self.platform.config_vars))
        if undeclared:
            return 422, f"config vars that the manifest lacks: {', '.join(undeclared)[:200]}"
        if addon.configs_to_refuse:
            addon.configs_to_refuse -= 1
            return 503, "refused once, to see it come again"
        return 200, ""

    def _carry_out(
        self, kind: str, addon: OrderedAddon, what: str, body: Mapping[str, object]
    ) -> object:
        if kind == "config":
            rows: Any = body["config"]
            addon.config |= {row["name"]: row["value"] or "" for row in rows}
            return _rows(addon)
        if kind in {"provision", "deprovision"}:
            addon.state = f"{kind}ed"
        match what:
            case "config":
                return _rows(addon)
            case "addon-attachments":
                return [_attachment(addon, self.platform.service_name)]
            case _:
                return _addon_json(addon, self.platform.service_name)


def _json(received: bytes) -> Mapping[str, object]:
    try:
        body = json.loads(received) if received else {}
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        return False
    return isinstance(row.get("value"), str | None)


def _rows(addon: OrderedAddon) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in sorted(addon.config.items())]


def _tokens(addon: OrderedAddon) -> dict[str, object]:
    return {
        "access_token": addon.access_token,
        "refresh_token": addon.refresh_token,
        "expires_in": TOKEN_LIFETIME_S,
        "token_type": "Bearer",
        "user_id": None,
        "session_nonce": None,
    }


def _addon_json(addon: OrderedAddon, service_name: str) -> dict[str, object]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "id": addon.uuid,
        "name": addon.name,
        "state": addon.state,
        "app": {"id": addon.uuid, "name": "conformance"},
        "addon_service": {"id": addon.uuid, "name": service_name},
        "plan": {"id": addon.uuid, "name": f"{service_name}:{addon.plan}"},
        "config_vars": sorted(addon.config),
        "provider_id": addon.uuid,
        "web_url": None,
        "actions": [],
        "billing_entity": {"id": addon.uuid, "name": "conformance", "type": "app"},
        "created_at": now,
        "updated_at": now,
    }


def _attachment(addon: OrderedAddon, service_name: str) -> dict[str, object]:
    name = service_name.upper().replace("-", "_")
    app = {"id": addon.uuid, "name": "conformance"}
    return {
        "id": addon.uuid,
        "name": name,
        "namespace": None,
        "addon": {"id": addon.uuid, "name": addon.name, "app": app},
        "app": app,
        "web_url": None,
    }
