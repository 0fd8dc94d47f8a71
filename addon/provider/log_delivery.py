"""Sends the log lines that wait, a batch for each resource, and again later where that fails.

A line is taken off its list once it was accepted, so one that a process died over is sent twice. A
stream that refuses them is asked for anew at the platform, and given up if that knows no other; the
reconciler asks, so that no line of another app waits for a platform.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from addon.provider import addon_info, logplex
from addon.provider.grants import NoGrant
from addon.provider.log_lines import (
    DUE_KEY,
    KEPT,
    LogLine,
    lines_key,
    redis_client,
    take_refusals,
)
from addon.provider.logplex import InvalidStream
from addon.provider.models import Resource
from addon.provider.platform_client import (
    PlatformGone,
    PlatformUnavailable,
    UnknownPlatform,
    find_platform,
)
from addon.rounds import Step
from billing.webhooks import NotAccepted, WebhookFailed

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]

BATCH_LINES = 100
STREAMS_AT_ONCE = 50
# A run begins no batch after so long; a batch ends within the time-out of webhooks.
RUN_S = 30.0
BACK_OFF_S = 10.0
BACK_OFF_MAX_S = 600.0
# Of the answers 4xx, those that may pass.
PASSING = frozenset({408, 425, 429})
ATTEMPTS_KEY = "log_lines:attempts"
REFUSED_KEY = "log_lines:refused"  # resource id → when to ask for another stream, in unix seconds

# Take the lines that were sent off their list; what is left is due at once.
# KEYS: a resource's lines, DUE_KEY, ATTEMPTS_KEY; ARGV: how many were sent, the resource, now
_DONE = """
redis.call('LTRIM', KEYS[1], ARGV[1], -1)
redis.call('HDEL', KEYS[3], ARGV[2])
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', KEYS[2], ARGV[2])
else redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2]) end
"""


def send_log_lines(clock: Clock) -> None:
    """Send what is due. Not to be called while another does it. Raises RedisError."""
    redis = redis_client()
    take_refusals(redis, clock())
    started = time.monotonic()
    while (due := _due(redis, clock())) and time.monotonic() - started < RUN_S:
        _send_all(redis, due, clock)


def _due(redis: Redis, now: datetime) -> list[UUID]:
    members = redis.zrangebyscore(DUE_KEY, "-inf", now.timestamp(), start=0, num=STREAMS_AT_ONCE)
    return [UUID(str(member)) for member in members]


def _send_all(redis: Redis, due: Sequence[UUID], clock: Clock) -> None:
    live = Resource.objects.filter(deprovisioned_at=None).in_bulk(due)
    batches: list[tuple[Resource, list[LogLine], int]] = []
    for resource_id in due:
        resource = live.get(resource_id)
        if resource is None or not resource.log_input_url:
            _forget(redis, resource_id)
            continue
        stored = redis.lrange(lines_key(resource_id), 0, BATCH_LINES - 1)
        lines = [msgspec.json.decode(line, type=LogLine) for line in stored]
        fresh = [line for line in lines if line.at > clock() - KEPT]
        batches.append((resource, fresh, len(stored)))
    failures = asyncio.run(_post_all([(resource, fresh) for resource, fresh, _ in batches]))
    for (resource, _, taken), failure in zip(batches, failures, strict=True):
        if failure is None:
            _done(redis, resource.id, taken, clock())
        elif _is_refusal(failure):
            redis.zadd(REFUSED_KEY, {str(resource.id): clock().timestamp()})
            _put_off(redis, DUE_KEY, resource.id, failure, clock())
        else:
            _put_off(redis, DUE_KEY, resource.id, failure, clock())


async def _post_all(
    batches: Sequence[tuple[Resource, list[LogLine]]],
) -> list[WebhookFailed | InvalidStream | None]:
    return await asyncio.gather(*(_post(resource, lines) for resource, lines in batches))


async def _post(
    resource: Resource, lines: Sequence[LogLine]
) -> WebhookFailed | InvalidStream | None:
    """Why it failed, if it did."""
    if not lines:
        return None
    try:
        await logplex.post(resource.log_input_url, lines)
    except (WebhookFailed, InvalidStream) as failure:
        return failure
    return None


def _is_refusal(failure: WebhookFailed | InvalidStream) -> bool:
    """Whether this URL will never take a line."""
    if isinstance(failure, NotAccepted):
        status = failure.status or 0
        return 400 <= status < 500 and status not in PASSING
    return isinstance(failure, InvalidStream)


def _done(redis: Redis, resource_id: UUID, count: int, now: datetime) -> None:
    done = redis.register_script(_DONE)
    keys = [lines_key(resource_id), DUE_KEY, ATTEMPTS_KEY]
    done(keys=keys, args=[count, str(resource_id), now.timestamp()])


def _put_off(redis: Redis, key: str, resource_id: UUID, failure: Exception, now: datetime) -> None:
    """10 s, 20 s, 40 s … 10 minutes; lines that have become too old meanwhile are left out."""
    attempts = int(redis.hincrby(ATTEMPTS_KEY, str(resource_id), 1))
    wait_s = min(BACK_OFF_S * 2 ** min(attempts - 1, 10), BACK_OFF_MAX_S)
    redis.zadd(key, {str(resource_id): now.timestamp() + wait_s})
    logger.warning("log lines of %s wait %.0f s: %s", resource_id, wait_s, failure)


def find_refused(clock: Clock, but_of: Collection[str]) -> list[Step]:
    """The resources whose streams refuse their lines, except of the platforms `but_of`."""
    try:
        refused = redis_client().zrangebyscore(REFUSED_KEY, "-inf", clock().timestamp())
    except RedisError as error:
        logger.warning("it is not known which log streams refuse their lines: %r", error)
        return []
    resources = Resource.objects.in_bulk([UUID(str(member)) for member in refused])
    return [
        Step(
            partner=find_platform(resource.callback_url) or "",
            row_id=f"the log stream of {resource.id}",
            run=partial(_find_other_stream, resource, clock),
        )
        for resource in resources.values()
        if find_platform(resource.callback_url) not in but_of
    ]


def _find_other_stream(resource: Resource, clock: Clock) -> None:
    """Ask the platform where the lines go now; without another URL they go nowhere any more."""
    redis = redis_client()
    try:
        url = _ask_for_url(resource, clock)
    except PlatformUnavailable as error:
        _put_off(redis, REFUSED_KEY, resource.id, error, clock())
        return
    except (NoGrant, UnknownPlatform, PlatformGone) as error:
        logger.warning("no platform to ask for the log stream of %s: %s", resource.id, error)
        url = ""
    if url in ("", resource.log_input_url):
        logger.warning("the log stream of %s is given up", resource.id)
        url = ""
    Resource.objects.filter(id=resource.id).update(log_input_url=url)
    if url:
        redis.zadd(DUE_KEY, {str(resource.id): clock().timestamp()})
        redis.zrem(REFUSED_KEY, str(resource.id))
    else:
        _forget(redis, resource.id)


def _ask_for_url(resource: Resource, clock: Clock) -> str:
    """That of the app which owns the add-on."""
    owner = addon_info.get_addon_info(resource, clock).app_id
    attachments = addon_info.get_attachments_info(resource, clock)
    urls = [each.log_input_url for each in attachments if each.app_id == owner]
    return next(filter(None, urls), "")


def _forget(redis: Redis, resource_id: UUID) -> None:
    redis.delete(lines_key(resource_id))
    redis.zrem(DUE_KEY, str(resource_id))
    redis.zrem(REFUSED_KEY, str(resource_id))
    redis.hdel(ATTEMPTS_KEY, str(resource_id))
