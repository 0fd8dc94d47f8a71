"""What goes on in the background: what was accepted is done, and the platform is told.

`drive` takes one resource as far as it comes now; the reconciler does so with every one that is
due. Each step is one transaction or one call, and leaves rows that say what comes next, so it may
be killed anywhere. A lease keeps two processes from calling about one resource at once: what is
sent later is never older. The resources of each platform wait for each other only.
"""

import logging
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from addon import leases
from addon.provider import (
    callbacks,
    grants,
    platform_client,
    provisioning,
    webhook_subscriptions,
)
from addon.provider.grants import NoGrant
from addon.provider.models import Callback, CallbackKind, Resource, Work
from addon.provider.platform_client import (
    AccessRefused,
    PlatformGone,
    PlatformUnavailable,
    UnknownPlatform,
    find_platform,
)
from addon.provider.provisioning import AttachmentGone, ResourceGone, UnknownPlan
from addon.rounds import Step

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]

LEASE = timedelta(seconds=10)  # renewed while a step lasts
FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(hours=1)
# How long a platform waits for what was accepted, and how long we try to come to a token.
PROVISION_WINDOW = timedelta(hours=12)
GRANT_WINDOW = timedelta(hours=24)


def find_due(clock: Clock, but_of: Collection[str], limit: int) -> list[Step]:
    """The resources that are due, except of the platforms `but_of`."""
    now = clock()
    due = Resource.objects.filter(_is_free(now), next_attempt_at__lte=now)
    for platform in filter(None, but_of):  # what has none is not called about
        due = due.exclude(callback_url__startswith=f"{platform}/")
    found = due.order_by("next_attempt_at").values_list("id", "callback_url")
    return [
        Step(
            partner=find_platform(callback_url) or "",
            row_id=resource_id,
            run=partial(drive, resource_id, clock),
        )
        for resource_id, callback_url in found[:limit]
    ]


def _is_free(now: datetime) -> Q:
    return Q(leased_until=None) | Q(leased_until__lte=now)


def drive(resource_id: UUID, clock: Clock) -> None:
    """Take the resource as far as it comes now; nothing while another process does."""
    while (resource := _claim(resource_id, clock())) is not None:
        try:
            with leases.kept(partial(_renew, resource)):
                _step(resource, clock)
        except (PlatformUnavailable, UnknownPlan) as error:
            _back_off(resource, str(error), clock())
        except (NoGrant, UnknownPlatform) as error:  # nothing more is queued for it either
            logger.error("%s cannot be called about: %s", resource.id, error)
            callbacks.end_all(resource, "expired", clock())
        except PlatformGone as error:
            _take_for_gone(resource, error, clock())
        except ResourceGone:
            logger.info("%s was deprovisioned meanwhile", resource.id)
        _release(resource, clock())


def _claim(resource_id: UUID, now: datetime) -> Resource | None:
    due = Resource.objects.filter(_is_free(now), id=resource_id, next_attempt_at__lte=now)
    if due.update(leased_until=now + LEASE) != 1:
        return None
    return Resource.objects.get(id=resource_id)


def _renew(resource: Resource, longer_by: timedelta) -> bool:
    """False when the lease has ended, and is somebody else's."""
    if resource.leased_until is None:
        return False
    ours = Resource.objects.filter(id=resource.id, leased_until=resource.leased_until)
    resource.leased_until += longer_by
    return ours.update(leased_until=resource.leased_until) == 1


def _step(resource: Resource, clock: Clock) -> None:
    """The one thing that is to be done next."""
    now = clock()
    if resource.pending == Work.PROVISION and resource.created_at + PROVISION_WINDOW <= now:
        _ask_a_last_time(resource, clock)
        if provisioning.give_up(resource.id, clock()):
            logger.warning("%s could not be provisioned in time", resource.id)
        return
    if _is_to_be_exchanged(resource, now):
        callbacks.queue_webhooks(resource, now)
        try:
            grants.access_token(resource, clock)  # within five minutes, whatever else there is
        except PlatformUnavailable as error:
            logger.warning("%s has no access token yet: %s", resource.id, error)
            if not _has_work(resource):
                raise
    if _has_work(resource):
        provisioning.finish(resource.id, clock())
        return
    callback = callbacks.find_next(resource)
    if callback is not None:
        _deliver(callback, resource, clock)


def _ask_a_last_time(resource: Resource, clock: Clock) -> None:
    """The platform may know that it is provisioned, from a process that died before it noted so.

    What it takes is confirmed, and then nothing is given up. Raises PlatformGone.
    """
    told = callbacks.open_callbacks(resource).filter(kind=CallbackKind.PROVISION).first()
    if told is None:
        return
    try:
        _deliver(told, resource, clock)
    except (PlatformUnavailable, NoGrant, UnknownPlatform) as error:
        logger.warning("%s: the platform was asked a last time: %s", resource.id, error)


def _has_work(resource: Resource) -> bool:
    match resource.pending:
        case Work.PROVISION:
            return resource.provisioned_at is None
        case _:
            return bool(resource.pending)


def _is_to_be_exchanged(resource: Resource, now: datetime) -> bool:
    if resource.deprovisioned_at is not None or resource.created_at + GRANT_WINDOW <= now:
        return False
    return grants.may_call(resource) and not grants.is_exchanged(resource)


def _deliver(callback: Callback, resource: Resource, clock: Clock) -> None:
    if callback.created_at + callbacks.RETRIED_FOR <= clock():
        logger.error("%s could not be told in 24 hours: %s", callback, resource.last_error)
        callbacks.end(callback, "expired", clock())
        return
    token = grants.access_token(resource, clock)
    try:
        _send(callback, resource, token)
    except (AttachmentGone, ResourceGone):
        callbacks.end(callback, "overtaken", clock())
        return
    except PlatformGone as gone:
        if gone.status == 410 or _is_about_the_addon(callback) or resource.pending:
            raise
        callbacks.end(callback, "gone", clock())
        return
    except AccessRefused:
        grants.forget_access(resource.id)
        raise
    with transaction.atomic():
        # The resource first, as whoever deprovisions it does: the other way round is a deadlock.
        if callback.kind == CallbackKind.PROVISION:
            provisioning.confirm(resource.id)
        callbacks.end(callback, "delivered", clock())


def _is_about_the_addon(callback: Callback) -> bool:
    """And not about an attachment, or webhooks, which a platform may not have either."""
    return callback.attachment is None and callback.kind != CallbackKind.WEBHOOKS


def _send(callback: Callback, resource: Resource, token: str) -> None:
    match CallbackKind(callback.kind):
        case CallbackKind.CONFIG:
            config = provisioning.current_config(resource.id, callback.attachment)
            if callback.attachment is None:
                platform_client.update_config(resource, token, config)
            else:
                attachment_id = callback.attachment.id
                platform_client.update_attachment_config(resource, token, attachment_id, config)
        case CallbackKind.PROVISION:
            platform_client.mark_provisioned(resource, token)
        case CallbackKind.DEPROVISION:
            platform_client.mark_deprovisioned(resource, token)
        case CallbackKind.WEBHOOKS:
            webhook_subscriptions.subscribe(resource, token)
        case unknown:
            assert_never(unknown)


def _take_for_gone(resource: Resource, gone: PlatformGone, now: datetime) -> None:
    """The platform has no such add-on. Of one that it never provisioned nobody has the key, so it
    ends; any other is ended by the platform's own request."""
    logger.info("%s is not called about any more: %s", resource.id, gone)
    with transaction.atomic():
        callbacks.end_all(resource, "gone", now)
        if gone.status == 410:
            grants.discard(resource)
            if resource.pending == Work.PROVISION:
                provisioning.give_up(resource.id, now)


def _back_off(resource: Resource, reason: str, now: datetime) -> None:
    logger.warning("%s: %s", resource.id, reason)
    wait = min(FIRST_WAIT * 2 ** min(resource.attempts, 10), LONGEST_WAIT)
    next_attempt_at = now + wait
    if resource.pending == Work.PROVISION:
        next_attempt_at = min(next_attempt_at, resource.created_at + PROVISION_WINDOW)
    # What came meanwhile is due at once.
    seen = Resource.objects.filter(id=resource.id, next_attempt_at=resource.next_attempt_at)
    seen.update(attempts=resource.attempts + 1, next_attempt_at=next_attempt_at, last_error=reason)


def _release(leased: Resource, now: datetime) -> None:
    """End the lease. What comes next is due as it was, unless a failure has put it off; or there is
    nothing left, but perhaps a deadline."""
    with transaction.atomic():
        resource = Resource.objects.select_for_update().get(id=leased.id)
        if resource.leased_until != leased.leased_until:
            return  # it has ended, and is somebody else's
        resource.leased_until = None
        has_more = _has_work(resource) or callbacks.open_callbacks(resource).exists()
        if not has_more and not _is_to_be_exchanged(resource, now):
            is_awaited = resource.pending == Work.PROVISION
            deadline = resource.created_at + PROVISION_WINDOW
            resource.next_attempt_at = deadline if is_awaited else None
            resource.attempts, resource.last_error = 0, ""
            if resource.deprovisioned_at is not None:
                grants.discard(resource)
        resource.save(update_fields=["leased_until", "next_attempt_at", "attempts", "last_error"])
