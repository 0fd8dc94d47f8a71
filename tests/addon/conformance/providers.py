"""A small correct add-on provider, and what can be wrong with it, each fault by its name.

It is a program of its own: no Django, nothing of Annex. `running(faults)` serves it on a free port,
with three plans: `basic` and `big` at once, `later` by callbacks.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode
from urllib.request import Request, urlopen
from uuid import UUID

PASSWORD = "password-of-the-small-provider"
SALT = "sso-salt-of-the-small-provider"
CLIENT_SECRET = "client-secret-of-the-small-provider"
PLANS = ("basic", "big", "later")
WINDOW_S = 300
RESOURCES = "/heroku/resources"
Answer = tuple[int, object]


class Fault(StrEnum):
    """What a provider does wrong. The comment is the check that finds it."""

    IGNORES_PASSWORD = "ignores the password"  # authentication.wrong-password
    IGNORES_USER = "ignores the user"  # authentication.wrong-user
    LOOKS_FIRST = "answers 404 before 401"  # authentication.before-existence
    PARSES_FIRST = "answers 400 before 401"  # authentication.before-content
    ACTS_FIRST = "deletes, then answers 401"  # authentication.changes-nothing
    NO_ID = "answers without an id"  # provision.id
    UNDECLARED_CONFIG = "sets a config var that the manifest lacks"  # provision.config-declared
    CONFIG_OF_NUMBERS = "sets a config var to a number"  # provision.config-strings
    URL_WITHOUT_HOST = "sets a URL without a host"  # provision.config-urls
    NO_CONFIG = "answers 201 without config"  # provision.config
    NEW_KEY_ON_REPEAT = "makes a new key for a repeat"  # repeats.same
    NEW_ID_ON_REPEAT = "makes a second resource for a repeat"  # repeats.same
    TAKES_OTHER_CONTENT = "takes the same uuid with another plan"  # repeats.other-content
    CHANGES_WHAT_IT_REFUSES = "refuses, and changes it all the same"  # repeats.unharmed
    INSISTS_ON_NAME = "needs a name"  # tolerance.no-grant
    INSISTS_ON_ACCEPT = "needs the vendor's Accept"  # tolerance.plain-accept
    REFUSES_UNKNOWN_FIELDS = "refuses unknown fields"  # tolerance.unknown-fields
    UUID_OF_THE_BODY = "changes the plan of the uuid in the body"  # tolerance.plan-change-fields
    REFUSES_SAME_PLAN = "refuses the plan that it has"  # plan-change.same-plan
    ID_CHANGES = "has another id after a plan change"  # plan-change.answer
    TAKES_ANY_PLAN = "takes any plan"  # errors.unknown-plan
    RAW_ERRORS = "shows a traceback to the customer"  # errors.unknown-plan
    CRASHES_ON_JSON = "answers 500 to what is no JSON"  # errors.malformed-json
    CRASHES_ON_ODD_IDS = "answers 500 to an odd id"  # errors.odd-ids
    NO_TOMBSTONES = "forgets what was deleted"  # deprovision.provision-after
    DELETES_ALL = "deletes other resources, too"  # deprovision.others-stay
    CANNOT_DELETE = "answers 500 to a deprovision"  # deprovision.status
    RACES = "makes two of a uuid that comes twice at once"  # concurrency.same-uuid
    SHARED_CREDENTIALS = "gives all customers the same key"  # concurrency.different-uuids
    HTML_ERRORS = "answers errors in HTML"  # answers.json
    REDIRECTS = "redirects repeats"  # answers.no-redirect
    HANGS = "never answers a plan change"  # answers.in-time
    CONFIG_IN_202 = "answers 202 with config"  # async.accepted
    NEVER_EXCHANGES = "does not exchange the grant"  # async.grant
    NO_CLIENT_SECRET = "exchanges the grant without the secret"  # async.grant
    RELEASES_FIRST = "says that it is ready before it sends config"  # async.order
    TOKEN_OF_ANOTHER = "sends a callback with another token"  # async.authorised
    UNDECLARED_CALLBACK = "sends config that the manifest lacks"  # async.config
    NEVER_FINISHES = "never says that it is ready"  # async.finished
    CONFIG_CHANGES = "sends other config after a repeat"  # async.repeat
    GIVES_UP = "does not repeat a callback"  # async.retry
    BUSY_DELETE = "cannot delete what is not ready"  # async.deprovision-early
    ANY_TOKEN = "logs in with any token"  # sso.bad-token
    PREFIX_IS_ENOUGH = "compares tokens up to the shorter one"  # sso.truncated-token
    NO_TOKEN = "logs in without a token"  # sso.no-token
    OLD_LOGINS = "logs in with an old form"  # sso.old
    FUTURE_LOGINS = "logs in with a form of the future"  # sso.future
    REPLAYS = "logs in with the same form twice"  # sso.replay
    ANY_USER = "does not bind the user"  # sso.other-user
    ANY_RESOURCE = "does not bind the resource"  # sso.other-resource
    LOGS_IN_TO_NOTHING = "logs in to what was deleted"  # sso.deprovisioned
    CRASHES_ON_TIME = "answers 500 to an odd timestamp"  # sso.no-number


@dataclass(kw_only=True)
class Row:
    uuid: str
    id: str
    plan: str
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    is_gone: bool = False
    is_ready: bool = True
    code: str = ""
    callback_url: str = ""


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Provider:
    """The rows and the rules; `Handler` is HTTP."""

    def __init__(self, faults: Collection[Fault]) -> None:
        self.faults = frozenset(faults)
        self.rows: dict[str, Row] = {}
        self.seen_logins: set[str] = set()
        self.lock = threading.RLock()
        self.url = ""
        self.ended = threading.Event()
        self.threads: list[threading.Thread] = []

    def has(self, fault: Fault) -> bool:
        return fault in self.faults

    def manifest(self, *, is_async: bool = True) -> dict[str, Any]:
        plans = [
            {"slug": "basic", "price_cents": 900, "default": True},
            {"slug": "big", "price_cents": 9900},
        ]
        if is_async:
            plans.append({"slug": "later", "price_cents": 900, "async": True})
        return {
            "id": "small-db",
            "name": "Small DB",
            "api": {
                "version": "3",
                "password": PASSWORD,
                "sso_salt": SALT,
                "regions": ["us"],
                "requires": ["many_per_app"],
                "config_vars": ["SMALL_DB_URL", "SMALL_DB_KEY"],
                "production": {"base_url": self.url, "sso_url": f"{self.url}/sso"},
                "annex": {"plans": plans},
            },
        }

    def live(self) -> list[Row]:
        return [row for row in self.rows.values() if not row.is_gone]

    # Authentication

    def is_platform(self, header: str) -> bool:
        scheme, _, encoded = header.partition(" ")
        try:
            user, _, password = base64.b64decode(encoded).decode().partition(":")
        except ValueError:
            return False
        if scheme != "Basic":
            return False
        is_user = user == "small-db" or self.has(Fault.IGNORES_USER)
        return is_user and (password == PASSWORD or self.has(Fault.IGNORES_PASSWORD))

    # The Partner API

    def answer(self, method: str, path: str, headers: Mapping[str, str], received: bytes) -> Answer:
        is_platform = self.is_platform(headers.get("Authorization", ""))
        uuid = path.removeprefix(RESOURCES).strip("/")
        if not is_platform:
            self._before_authentication(method, uuid, received)
            raise Refusal(401, "Wrong credentials")
        if self.has(Fault.INSISTS_ON_ACCEPT) and "heroku-addons" not in headers.get("Accept", ""):
            raise Refusal(406, "Not acceptable")
        if method == "POST":
            return self.provision(self._parse(received))
        row = self._row(uuid)
        return self.change_plan(row, self._parse(received)) if method == "PUT" else self.delete(row)

    def _before_authentication(self, method: str, uuid: str, received: bytes) -> None:
        if self.has(Fault.PARSES_FIRST) and method == "POST":
            self._parse(received)
        if self.has(Fault.LOOKS_FIRST) and uuid:
            self._row(uuid)
        if self.has(Fault.ACTS_FIRST) and method == "DELETE" and uuid in self.rows:
            self.rows[uuid].is_gone = True

    def _parse(self, received: bytes) -> dict[str, Any]:
        try:
            body = json.loads(received)
        except ValueError:
            if self.has(Fault.CRASHES_ON_JSON):
                raise
            raise Refusal(400, "The body is no JSON") from None
        if not isinstance(body, dict):
            raise Refusal(400, "The body is no object")
        return body

    def _row(self, uuid: str) -> Row:
        if uuid not in self.rows:
            if self.has(Fault.CRASHES_ON_ODD_IDS):
                UUID(uuid)
            raise Refusal(404, "There is no such resource")
        row = self.rows[uuid]
        if row.is_gone:
            raise Refusal(410, "It was deprovisioned")
        return row

    def _plan(self, body: Mapping[str, Any]) -> str:
        plan = body.get("plan")
        if not isinstance(plan, str):
            raise Refusal(422, "plan is missing")
        if plan not in PLANS and not self.has(Fault.TAKES_ANY_PLAN):
            if self.has(Fault.RAW_ERRORS):
                raise Refusal(422, 'Traceback (most recent call last):\n  File "x.py"\nKeyError')
            raise Refusal(422, f"There is no plan {plan}")
        return plan

    def provision(self, body: dict[str, Any]) -> Answer:
        if "uuid" not in body:
            raise Refusal(422, "uuid is missing")
        if self.has(Fault.INSISTS_ON_NAME) and "name" not in body:
            raise Refusal(422, "name is missing")
        if self.has(Fault.REFUSES_UNKNOWN_FIELDS) and "new_field" in body:
            raise Refusal(422, "new_field is not known")
        uuid, plan = body["uuid"], self._plan(body)
        if self.has(Fault.RACES) and uuid not in self.rows:
            time.sleep(0.2)
            return self._new(uuid, plan, body)
        with self.lock:
            if uuid not in self.rows:
                return self._new(uuid, plan, body)
            return self._repeat(self._row(uuid), plan)

    def _new(self, uuid: str, plan: str, body: Mapping[str, Any]) -> Answer:
        row = self.rows[uuid] = Row(uuid=uuid, id=f"id-{secrets.token_hex(6)}", plan=plan)
        if self.has(Fault.SHARED_CREDENTIALS):
            row.key = "the-key-of-all"
        grant = body.get("oauth_grant") or {}
        row.code, row.callback_url = grant.get("code", ""), body.get("callback_url", "")
        if plan != "later":
            return 201, self._provisioned(row)
        row.is_ready = False
        thread = threading.Thread(target=self.call_back, args=(row,), daemon=True)
        self.threads.append(thread)
        thread.start()
        return 202, self._provisioned(row)

    def _repeat(self, row: Row, plan: str) -> Answer:
        if self.has(Fault.REDIRECTS):
            return 302, {}
        if plan != row.plan:
            if self.has(Fault.CHANGES_WHAT_IT_REFUSES):
                row.key = secrets.token_hex(16)
            if not self.has(Fault.TAKES_OTHER_CONTENT):
                raise Refusal(409, "It exists with another plan")
        if self.has(Fault.NEW_KEY_ON_REPEAT):
            row.key = secrets.token_hex(16)
        if self.has(Fault.NEW_ID_ON_REPEAT):
            row.id = f"id-{secrets.token_hex(6)}"
        if self.has(Fault.CONFIG_CHANGES) and row.plan == "later":
            row.key = secrets.token_hex(16)
            row.is_ready = False
            self.call_back(row)
        return (201 if row.is_ready else 202), self._provisioned(row)

    def _provisioned(self, row: Row) -> dict[str, object]:
        answer: dict[str, object] = {"id": row.id, "message": "Thank you."}
        if row.is_ready or self.has(Fault.CONFIG_IN_202):
            answer["config"] = self.config(row)
        if self.has(Fault.NO_CONFIG):
            answer.pop("config", None)
        if self.has(Fault.NO_ID):
            del answer["id"]
        return answer

    def config(self, row: Row) -> dict[str, object]:
        config: dict[str, object] = {
            "SMALL_DB_URL": "no-url-at-all" if self.has(Fault.URL_WITHOUT_HOST) else self.url,
            "SMALL_DB_KEY": 42 if self.has(Fault.CONFIG_OF_NUMBERS) else row.key,
        }
        if self.has(Fault.UNDECLARED_CONFIG):
            config["OTHER_KEY"] = "x"
        return config

    def change_plan(self, row: Row, body: dict[str, Any]) -> Answer:
        if self.has(Fault.HANGS):
            self.ended.wait(10)
        if self.has(Fault.UUID_OF_THE_BODY) and "uuid" in body:
            row = self._row(body["uuid"])
        plan = self._plan(body)
        if plan == row.plan and self.has(Fault.REFUSES_SAME_PLAN):
            raise Refusal(422, "It has that plan")
        row.plan = plan
        answer: dict[str, object] = {"config": self.config(row), "message": "Changed."}
        if self.has(Fault.ID_CHANGES):
            answer["id"] = "another-id"
        return 200, answer

    def delete(self, row: Row) -> Answer:
        if self.has(Fault.CANNOT_DELETE):
            return 500, {"message": "No."}
        if self.has(Fault.BUSY_DELETE) and not row.is_ready:
            raise Refusal(409, "It is not ready yet")
        with self.lock:
            self._row(row.uuid)
            row.is_gone = True
            if self.has(Fault.NO_TOMBSTONES):
                del self.rows[row.uuid]
            if self.has(Fault.DELETES_ALL):
                for other in self.rows.values():
                    other.is_gone = True
        return 204, None

    # Callbacks

    def call_back(self, row: Row) -> None:
        """As a worker of the provider would, after its 202."""
        if self.has(Fault.NEVER_EXCHANGES):
            return
        root = row.callback_url.partition("/addons/")[0]
        form = {"grant_type": "authorization_code", "code": row.code}
        if not self.has(Fault.NO_CLIENT_SECRET):
            form["client_secret"] = CLIENT_SECRET
        status, tokens = _send("POST", f"{root}/oauth/token", urlencode(form).encode(), {})
        if status != 200:
            return
        bearer = f"Bearer {tokens['access_token']}"
        if self.has(Fault.BUSY_DELETE):
            self.ended.wait(0.2)
        with self.lock:
            if row.is_gone:
                return
        if self.has(Fault.TOKEN_OF_ANOTHER):
            _send("GET", row.callback_url, b"", {"Authorization": "Bearer of-another"})
        if self.has(Fault.RELEASES_FIRST):
            self._release(row, bearer)
        self._send_config(row, bearer)
        if not self.has(Fault.NEVER_FINISHES):
            self._release(row, bearer)

    def _send_config(self, row: Row, bearer: str) -> None:
        config = self.config(row)
        if self.has(Fault.UNDECLARED_CALLBACK):
            config["OTHER_KEY"] = "x"
        rows = [{"name": name, "value": value} for name, value in config.items()]
        body = json.dumps({"config": rows}).encode()
        for _ in range(1 if self.has(Fault.GIVES_UP) else 10):
            status, _ = _send("PATCH", f"{row.callback_url}/config", body, _headers(bearer))
            if status < 500 or self.ended.wait(0.05):
                return

    def _release(self, row: Row, bearer: str) -> None:
        row.is_ready = True
        _send("POST", f"{row.callback_url}/actions/provision", b"", _headers(bearer))

    # SSO

    def log_in(self, fields: Mapping[str, str]) -> int:
        try:
            moment = int(fields.get("timestamp", ""))
        except ValueError:
            return 500 if self.has(Fault.CRASHES_ON_TIME) else 403
        age_s = time.time() - moment
        if age_s > WINDOW_S and not self.has(Fault.OLD_LOGINS):
            return 403
        if age_s < -WINDOW_S and not self.has(Fault.FUTURE_LOGINS):
            return 403
        given = [name for name in _TOKENS if name in fields]
        if not given:
            return 200 if self.has(Fault.NO_TOKEN) else 403
        with self.lock:
            if not all(self._is_token(name, fields) for name in given):
                return 403
            proof = ":".join(fields[name] for name in given)
            if proof in self.seen_logins and not self.has(Fault.REPLAYS):
                return 403
            self.seen_logins.add(proof)
        rows = [row for row in self.rows.values() if fields_name(row, fields)]
        if not rows:
            return 404
        return 200 if not rows[0].is_gone or self.has(Fault.LOGS_IN_TO_NOTHING) else 403

    def _is_token(self, name: str, fields: Mapping[str, str]) -> bool:
        given = fields[name]
        if self.has(Fault.ANY_TOKEN):
            return bool(given)
        candidates = [fields]
        if self.has(Fault.ANY_RESOURCE):
            candidates += [
                {**fields, "resource_id": row.uuid, "id": row.id} for row in self.rows.values()
            ]
        if self.has(Fault.ANY_USER):
            return name == "user_scoped_resource_token" or given == _token(name, fields)
        expected = [_token(name, each) for each in candidates]
        if self.has(Fault.PREFIX_IS_ENOUGH):
            return any(each.startswith(given) for each in expected)
        return given in expected


_TOKENS = ("user_scoped_resource_token", "resource_token", "token")


def fields_name(row: Row, fields: Mapping[str, str]) -> bool:
    return fields.get("resource_id") == row.uuid or fields.get("id") == row.id


def _token(name: str, fields: Mapping[str, str]) -> str:
    moment = fields.get("timestamp", "")
    if name == "token":
        return _sha1(f"{fields.get('id')}:{SALT}:{moment}")
    text = f"{fields.get('resource_id')}:{SALT}:{moment}"
    if name == "resource_token":
        return _sha1(text)
    text += f":{fields.get('user_id')}:{fields.get('email')}"
    return hashlib.sha256(text.encode()).hexdigest()


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - the contract's


def _headers(bearer: str) -> dict[str, str]:
    return {"Authorization": bearer, "Content-Type": "application/json"}


def _send(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Any]:
    request = Request(url, data=body or None, method=method, headers=dict(headers))  # noqa: S310
    try:
        with urlopen(request, timeout=5) as response:  # noqa: S310 - the suite's own server
            return response.status, json.loads(response.read() or b"{}")
    except OSError as error:
        return getattr(error, "code", 599), {}


class _Handler(BaseHTTPRequestHandler):
    provider: Provider

    def handle_any(self) -> None:
        received = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/sso":
            status = self.provider.log_in(
                dict(parse_qsl(received.decode(), keep_blank_values=True))
            )
            self._send(status, b"<p>Small DB</p>", {"Set-Cookie": "session=1; HttpOnly"})
            return
        try:
            status, body = self.provider.answer(
                self.command, self.path, dict(self.headers), received
            )
        except Refusal as refusal:
            status, body = refusal.status, {"message": refusal.message}
            if self.provider.has(Fault.HTML_ERRORS):
                self._send(status, b"<html>No</html>", {"Content-Type": "text/html"})
                return
        except (ValueError, KeyError):
            status, body = 500, {"message": "Something went wrong"}
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if status == 302:
            headers["Location"] = f"{self.provider.url}{RESOURCES}"
        self._send(status, content, headers)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815 - the base class's names

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, template: str, *args: object) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up on a provider that hangs."""


@contextmanager
def running(faults: Collection[Fault] = ()) -> Iterator[Provider]:
    provider = Provider(faults)
    handler = type("Handler", (_Handler,), {"provider": provider})
    with _Server(("127.0.0.1", 0), handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield provider
        finally:
            provider.ended.set()
            server.shutdown()
            thread.join()
            for caller in provider.threads:
                caller.join(5)
