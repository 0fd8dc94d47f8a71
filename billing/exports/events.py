"""What is exported of a row of the ledger, how that may end, and the POST that does it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from billing.models import UsageEvent

logger = logging.getLogger(__name__)

TIMEOUT_S = 15.0
ANSWER_MAX_BYTES = 64_000
# Of the destination itself, or of how we ask it; nothing that one event could be blamed for.
_OWN_FAULTS = {401, 402, 403, 404, 405, 408, 409, 425, 429}


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedEvent:
    event: UsageEvent
    stripe_customer_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """The destination has the event, from this attempt or an earlier one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """The destination does not want this event. A later attempt may find it changed its mind."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """The event cannot be sent as things are."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unavailable:
    """The destination did not answer, or answered what no event is to be blamed for. It may have
    the event all the same."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NotTried:
    """The run was over before the event's turn came."""


Outcome = Delivered | Rejected | Skipped | Unavailable | NotTried


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_rejection(self) -> bool:
        return 400 <= self.status < 500 and self.status not in _OWN_FAULTS


def encode(event: ExportedEvent, write: Callable[[ExportedEvent], str]) -> bytes | Rejected:
    """The event as it is sent. One that cannot be written keeps no other from being sent."""
    try:
        return write(event).encode()
    except Exception as error:  # whatever it is, it must cost one event and not the run
        logger.exception("event %s cannot be written", event.event.id)
        return Rejected(reason=f"an error in Annex, which its log has: {type(error).__name__}")


async def post(
    client: httpx.AsyncClient, url: str, *, headers: Mapping[str, str], body: bytes
) -> Answer | Unavailable:
    """One POST, given up after TIMEOUT_S in all."""
    received = bytearray()
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            client.stream("POST", url, headers=dict(headers), content=body) as response,
        ):
            async for chunk in response.aiter_bytes():
                received += chunk
                if len(received) > ANSWER_MAX_BYTES:
                    break
            return Answer(status=response.status_code, body=bytes(received[:ANSWER_MAX_BYTES]))
    except TimeoutError:
        return Unavailable(reason=f"no answer within {TIMEOUT_S:.0f} s")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Unavailable(reason=f"no answer: {type(error).__name__}")
    except Exception as error:  # whatever it is, what is known of other events is not lost
        logger.exception("a post to an export destination broke")
        return Unavailable(reason=f"an error in Annex, which its log has: {type(error).__name__}")


def describe(answer: Answer) -> str:
    """For the operator, who trusts the destination."""
    said = answer.body.decode("utf-8", "replace").replace("\0", "")
    return f"answered {answer.status}: {said[:500]}"
