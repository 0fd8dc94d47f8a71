"""One request by which a service of ours calls another's JSON API, and its answer as a value."""

import base64
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache

import httpx

from addon.call_deadlines import CallDeadline
from addon.database_connections import release_connection

CONNECT_TIMEOUT_S = 5.0  # to each address of the host
ANSWER_MAX_BYTES = 1_000_000
# A megabyte that unpacks to a gigabyte is no answer.
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "Annex"}


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
        with CallDeadline(timeout_s) as deadline:
            request = httpx.Request(
                method,
                url,
                headers={**_HEADERS, **_authorization(auth), **(headers or {})},
                json=body,
                data=form,
                extensions={"timeout": timeout.as_dict(), "trace": deadline.trace},
            )
            with closing(_transport().handle_request(request)) as response:
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
def _transport() -> httpx.HTTPTransport:
    """One connection a call: who is called is looked up anew, and has its own deadline."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.HTTPTransport(verify=httpx.create_ssl_context(), limits=limits)


def _authorization(auth: tuple[str, str] | None) -> dict[str, str]:
    if auth is None:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(':'.join(auth).encode()).decode()}"}


def _parse(received: bytes) -> object:
    if not received.strip():
        return {}
    try:
        return json.loads(received)
    except (ValueError, RecursionError):
        return None
