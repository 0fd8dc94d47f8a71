"""The reconciler: finishes what a provider or a dead process left unfinished.

It looks for rows whose next attempt is due, claims one at a time, and drives it by the same
functions as a request does. It may run twice, in parallel, and be killed anywhere. The rows of each
provider wait for each other only.
"""

import logging
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from functools import partial
from itertools import chain, islice
from uuid import UUID

from addon import rounds
from addon.lifecycle import State
from addon.platform import app_removal, attachments, plan_changes, provisioning
from addon.platform.addons import AddonNotFound, AddonNotReady
from addon.platform.attachments import AttachmentFailed, AttachmentRefused
from addon.platform.heroku_apps import AppNotFound
from addon.platform.models import Addon, Attachment, AttachmentState
from addon.platform.provisioning import ProvisionRefused
from addon.platform.transitions import ConcurrentChange, claim
from addon.rounds import Step

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]


def reconcile(clock: Clock) -> None:
    """Drive everything that is overdue. `clock` tells the time: calls to providers take long."""
    rounds.attend(partial(find_due, clock))


def find_due(clock: Clock, but_of: Collection[str], limit: int) -> list[Step]:
    """What is overdue, except of the providers `but_of`."""
    services = [UUID(service_id) for service_id in but_of]
    found = chain(
        _remains(services, clock, limit),
        _overdue_addons(services, clock, limit),
        _overdue_attachments(services, clock, limit),
    )
    return list(islice(found, limit))


def _step(row: Addon | Attachment, service_id: object, drive: Callable[[], None]) -> Step:
    return Step(partner=str(service_id), row_id=row.pk, run=partial(_run, row.pk, drive))


def _run(row_id: object, drive: Callable[[], None]) -> None:
    try:
        drive()
    except (ProvisionRefused, AttachmentRefused, AttachmentFailed) as outcome:
        # Where a user waits these are the answer; here the row already says what comes next.
        logger.warning("reconciled %s: %s", row_id, type(outcome).__name__)
    except (ConcurrentChange, AppNotFound, AddonNotFound, AddonNotReady) as overtaken:
        logger.info("reconciling %s was overtaken: %s", row_id, overtaken)


def _remains(services: Collection[UUID], clock: Clock, limit: int) -> Iterator[Step]:
    for addon in app_removal.remaining_addons().exclude(service__in=services)[:limit]:
        yield _step(addon, addon.service_id, partial(_destroy, addon, clock))
    left = app_removal.remaining_attachments().exclude(addon__service__in=services)
    for attachment in left[:limit]:
        discard = partial(_discard, attachment, clock)
        yield _step(attachment, attachment.addon.service_id, discard)


def _destroy(addon: Addon, clock: Clock) -> None:
    provisioning.destroy(addon, addon.app.owner, clock(), force=True)


def _discard(attachment: Attachment, clock: Clock) -> None:
    attachments.discard(attachment, attachment.app.owner, clock())


def _overdue_addons(services: Collection[UUID], clock: Clock, limit: int) -> Iterator[Step]:
    waiting = Addon.objects.filter(
        # One that is provisioned is due when its provider may have another plan than it.
        state__in=[State.PROVISIONING, State.PROVISIONED, State.DEPROVISIONING],
        next_attempt_at__lte=clock(),
    ).exclude(service__in=services)
    related = waiting.select_related("app__owner", "service", "plan")
    for addon in related.order_by("next_attempt_at")[:limit]:
        yield _step(addon, addon.service_id, partial(_drive_addon, addon, clock))


def _drive_addon(addon: Addon, clock: Clock) -> None:
    now = clock()
    owner = addon.app.owner
    if addon.state == State.PROVISIONED:
        plan_changes.confirm_plan(addon, owner, now)
        return
    if not claim(addon, now):
        return
    if addon.state == State.PROVISIONING:
        if addon.deadline_at is not None and addon.deadline_at <= now:
            provisioning.abandon(addon, owner, now)
        else:
            attachment = _first_attachment(addon)
            provisioning.drive_provisioning(addon, attachment, owner, now)
    if addon.state == State.DEPROVISIONING:
        provisioning.drive_deprovisioning(addon, now)


def _first_attachment(addon: Addon) -> Attachment:
    return addon.attachments.select_related("app", "addon__service").get(
        state=AttachmentState.ATTACHING
    )


def _overdue_attachments(services: Collection[UUID], clock: Clock, limit: int) -> Iterator[Step]:
    waiting = Attachment.objects.filter(
        # The first attachment of an add-on that is provisioning comes with that add-on.
        addon__state__in=[State.PROVISIONED, State.DEPROVISIONING],
        # One that is attached is due when its provider may have another name of the app.
        state__in=AttachmentState.values,
        next_attempt_at__lte=clock(),
    ).exclude(addon__service__in=services)
    related = waiting.select_related("addon__service", "addon__app", "app__owner")
    for attachment in related.order_by("next_attempt_at")[:limit]:
        drive = partial(_drive_attachment, attachment, clock)
        yield _step(attachment, attachment.addon.service_id, drive)


def _drive_attachment(attachment: Attachment, clock: Clock) -> None:
    now = clock()
    if not claim(attachment, now):
        return
    if attachment.state == AttachmentState.ATTACHING:
        attachments.drive_attaching(attachment, attachment.app.owner, now)
    if attachment.state == AttachmentState.ATTACHED:
        attachments.tell_app_name(attachment)
    if attachment.state == AttachmentState.DETACHING:
        attachments.remove_detached(attachment)
