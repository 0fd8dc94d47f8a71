"""Requests to the provider under test, each kept with its answer for the checks on all of them."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from addon.call_deadlines import CallDeadline

ACCEPT = "application/vnd.heroku-addons+json; version=3"
ANSWER_MAX_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One request and its answer. `status` is None when there was none: `error` says why."""

    method: str
    target: str
    status: int | None = None
    body: Mapping[str, object] = field(default_factory=dict, repr=False)
    is_json: bool = True
    content_type: str = ""
    elapsed_s: float
    error: str = ""

    @property
    def said(self) -> str:
        """For people: how it was answered, without anything that the provider wrote."""
        return f"no answer ({self.error})" if self.status is None else str(self.status)

    @property
    def name(self) -> str:
        return f"{self.method} {self.target}"

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def message(self) -> object:
        return self.body.get("message")


class PartnerClient:
    """Calls below `base_url`, each given up after `timeout_s`. It may be used by many threads."""

    def __init__(self, base_url: str, user: str, password: str, *, timeout_s: float) -> None:
        self.exchanges: list[Exchange] = []
        self._base_url = base_url
        self._auth = (user, password)
        self._timeout_s = timeout_s
        self._client = httpx.Client(timeout=timeout_s, follow_redirects=False)

    def close(self) -> None:
        self._client.close()

    def send(
        self,
        method: str,
        path: str = "",
        body: object = None,
        *,
        target: str = "",
        auth: tuple[str, str] | None = None,
        anonymous: bool = False,
        accept: str = ACCEPT,
    ) -> Exchange:
        """`body` is sent as JSON, or as it is if it is bytes; `target` names `path` for people."""
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = "application/json"
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        deadline = CallDeadline(self._timeout_s)
        request = self._client.build_request(
            method,
            self._base_url + path,
            content=content,
            headers=headers,
            extensions={"trace": deadline.trace, "timeout": self._client.timeout.as_dict()},
        )
        started_at = time.monotonic()
        error, is_late = "", False
        try:
            with deadline:
                answer = self._answer(request, None if anonymous else auth or self._auth)
        except (httpx.HTTPError, httpx.InvalidURL) as raised:
            answer, error = None, type(raised).__name__
            is_late = isinstance(raised, httpx.TimeoutException)
        if is_late or deadline.has_passed:
            answer, error = None, f"not within {self._timeout_s:g} s"
        exchange = _exchange(
            method, target or "/heroku/resources", answer, error, time.monotonic() - started_at
        )
        self.exchanges.append(exchange)
        return exchange

    def _answer(self, request: httpx.Request, auth: tuple[str, str] | None) -> httpx.Response:
        response = self._client.send(request, auth=auth, stream=True)
        received = bytearray()
        try:
            for chunk in response.iter_bytes():
                received += chunk
                if len(received) > ANSWER_MAX_BYTES:
                    raise httpx.DecodingError("the answer is too long")
        finally:
            response.close()
        return httpx.Response(
            response.status_code, headers=_plain(response), content=bytes(received)
        )


def _plain(response: httpx.Response) -> dict[str, str]:
    return {"Content-Type": response.headers.get("Content-Type", "")}


def _exchange(
    method: str, target: str, answer: httpx.Response | None, error: str, elapsed_s: float
) -> Exchange:
    if answer is None:
        return Exchange(method=method, target=target, elapsed_s=elapsed_s, error=error)
    body, is_json = _read(answer.content)
    return Exchange(
        method=method,
        target=target,
        status=answer.status_code,
        body=body,
        is_json=is_json,
        content_type=answer.headers.get("Content-Type", ""),
        elapsed_s=elapsed_s,
    )


def _read(content: bytes) -> tuple[Mapping[str, object], bool]:
    """An empty answer is fine where a status says all."""
    if not content.strip():
        return {}, True
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}, False
    return (body, True) if isinstance(body, dict) else ({}, False)
