"""Lines for an app's log stream, of what happened to its add-on (docs/adr/0023-log-lines.md).

Where a platform named a `log_input_url`, lines wait in Redis, a list for each resource, until a
task sends them. Whoever writes one waits for Redis at most, and never for the stream. A line holds
no key and no text of a customer.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import transaction
from redis import Redis
from redis.exceptions import RedisError

from addon.json_api import iso
from addon.provider.models import Attachment, Resource

logger = logging.getLogger(__name__)

# What waits for longer is nobody's news any more; what waits beyond so many lines is dropped.
KEPT = timedelta(hours=1)
WAITING_MAX_LINES = 500
REDIS_TIMEOUT_S = 1.0
DUE_KEY = "log_lines:due"  # resource id → when to send, in unix seconds
# Of the last minutes: how often each attachment was refused for each kind of limit.
MINUTES_KEY = "log_lines:minutes"
REFUSALS_KEPT_S = 3_600
# A minute is over when what web processes had counted in it has arrived.
GRACE_S = 5.0

# KEYS: a resource's lines, DUE_KEY; ARGV: a line, most lines, seconds kept, the resource, now
_PUSH = """
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], 'NX', ARGV[5], ARGV[4])
return 1
"""


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    at: datetime
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusals:
    """How often in a minute requests of an attachment were refused for one kind of limit."""

    resource_id: UUID
    attachment_id: UUID
    limit: str
    count: int


@cache
def redis_client() -> Redis:
    return Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
    )


def write_plan_change(resource: Resource, before: str, after: str, now: datetime) -> None:
    """Once the transaction holds. `before` and `after` are plans' slugs."""
    fields = {"addon": resource.name, "event": "plan_changed", "plan": after, "previous": before}
    _write(resource, fields, now)


def write_key_rotation(attachment: Attachment, old_key_ends_at: datetime, now: datetime) -> None:
    """Once the transaction holds: the attachment has a new key, and the old one ends then."""
    fields = {
        "source": attachment.name,
        "addon": attachment.resource.name,
        "event": "key_rotated",
        "old_key_ends_at": iso(old_key_ends_at),
    }
    _write(attachment.resource, fields, now)


def write_refusals(refused: Sequence[Refusals], at: datetime) -> None:
    """A line for each, unless its resource has no log stream or is gone. Raises RedisError."""
    ids = [refusals.attachment_id for refusals in refused]
    found = Attachment.objects.select_related("resource").in_bulk(ids)
    for refusals in refused:
        attachment = found.get(refusals.attachment_id)
        if attachment is None or attachment.resource_id != refusals.resource_id:
            continue
        fields = {
            "source": attachment.name,
            "addon": attachment.resource.name,
            "event": "rate_limited",
            "limit": refusals.limit,
            f"count#rate_limited.{refusals.limit}": str(refusals.count),
        }
        if _has_stream(attachment.resource):
            _push(attachment.resource, LogLine(at=at, text=_text(fields)))


def take_refusals(redis: Redis, now: datetime) -> None:
    """Make lines of the minutes that are over: one for each attachment and kind of limit.

    Raises RedisError. A minute that it dies over is written again.
    """
    current = int(now.timestamp() - GRACE_S) // 60
    for minute in sorted(int(member) for member in redis.smembers(MINUTES_KEY)):
        if minute < current:
            counts = redis.hgetall(refusals_key(minute))
            refused = [_refusals(str(field), int(count)) for field, count in counts.items()]
            write_refusals(refused, datetime.fromtimestamp(60 * (minute + 1), tz=UTC))
            redis.delete(refusals_key(minute))
            redis.srem(MINUTES_KEY, minute)


def refusals_key(minute: int) -> str:
    """A hash, of `refusals_field`s and their counts in that minute of unix time."""
    return f"log_lines:refusals:{minute}"


def refusals_field(resource_id: UUID, attachment_id: UUID, limit: str) -> str:
    return f"{resource_id} {attachment_id} {limit}"


def _refusals(field: str, count: int) -> Refusals:
    resource_id, attachment_id, limit = field.split()
    return Refusals(
        resource_id=UUID(resource_id), attachment_id=UUID(attachment_id), limit=limit, count=count
    )


def lines_key(resource_id: UUID) -> str:
    return f"log_lines:{resource_id}"


def _has_stream(resource: Resource) -> bool:
    return resource.log_input_url != "" and resource.deprovisioned_at is None


def _write(resource: Resource, fields: Mapping[str, str], now: datetime) -> None:
    if not _has_stream(resource):
        return
    line = LogLine(at=now, text=_text(fields))

    def push() -> None:
        try:
            _push(resource, line)
        except RedisError as error:  # no reason to fail what it is about
            logger.warning("a log line of %s is lost: %r", resource.id, error)

    transaction.on_commit(push)


def _push(resource: Resource, line: LogLine) -> None:
    push = redis_client().register_script(_PUSH)
    is_kept = push(
        keys=[lines_key(resource.id), DUE_KEY],
        args=[
            msgspec.json.encode(line),
            WAITING_MAX_LINES,
            round(KEPT.total_seconds()),
            str(resource.id),
            line.at.timestamp(),
        ],
    )
    if not is_kept:
        logger.warning("a log line of %s is dropped: too many wait", resource.id)


def _text(fields: Mapping[str, str]) -> str:
    """`key=value …`, as Heroku's logs have it. No value makes a second field or line."""
    safe = {name: re.sub(r"[^A-Za-z0-9_.:/+-]", "_", value) for name, value in fields.items()}
    return " ".join(f"{name}={value}" for name, value in safe.items() if value)
