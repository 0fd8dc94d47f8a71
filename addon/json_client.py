"""One request by which a service of ours calls another's JSON API, and its answer as a value."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from ssl import SSLContext

import httpx

from addon.call_deadlines import CallDeadline
from addon.database_connections import release_connection

CONNECT_TIMEOUT_S = 5.0  # to each address of the host
ANSWER_MAX_BYTES = 1_000_000


class NoAnswer(Exception):
    """None came, or not a whole one in time. The text holds nothing that the other side wrote."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """`body` is None when it is no JSON; an empty one says nothing, as an empty object does."""

    status: int
    body: object = field(repr=False)

    @property
    def fields(self) -> Mapping[str, object]:
        """Those of a body that is an object; else there are none."""
        return self.body if isinstance(self.body, dict) else {}


def call(
    method: str,
    url: str,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    auth: tuple[str, str] | None = None,
    body: Mapping[str, object] | None = None,
    form: Mapping[str, str] | None = None,
) -> Answer:
    """Given up after `timeout_s` in all, however slowly it is answered. Follows no redirect, and
    goes through no proxy of the environment: another address must not get the password.

    Not to be called within a transaction: it gives the database connection back to the pool. Raises
    NoAnswer.
    """
    # Who is called may be this very process: it would starve if every connection waited for it.
    release_connection()
    received = bytearray()
    timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
    try:
        with (
            CallDeadline(timeout_s) as deadline,
            httpx.Client(timeout=timeout, verify=_tls_context(), trust_env=False) as client,
            client.stream(
                method,
                url,
                # A megabyte that unpacks to a gigabyte is no answer.
                headers={"Accept-Encoding": "identity", **(headers or {})},
                auth=auth,
                json=body,
                data=form,
                extensions={"trace": deadline.trace},
            ) as response,
        ):
            for chunk in response.iter_raw():
                received += chunk
                if len(received) > ANSWER_MAX_BYTES:
                    raise NoAnswer("the answer is too long")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if not deadline.has_passed:
            raise NoAnswer(f"no answer: {type(error).__name__}") from None
    if deadline.has_passed:  # then the answer may have been cut without an error
        raise NoAnswer("the answer took too long")
    return Answer(status=response.status_code, body=_parse(bytes(received)))


@cache
def _tls_context() -> SSLContext:
    return httpx.create_ssl_context()  # reading the certificates takes tens of milliseconds


def _parse(received: bytes) -> object:
    if not received.strip():
        return {}
    try:
        return json.loads(received)
    except (ValueError, RecursionError):
        return None
