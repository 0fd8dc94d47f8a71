"""The reconciler: finishes what a provider or a dead process left unfinished.

It looks for rows whose next attempt is due, claims one at a time, and drives it by the same
functions as a request does. It may run twice, in parallel, and be killed anywhere.
"""

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial

from addon.lifecycle import State
from addon.platform import app_removal, attachments, plan_changes, provisioning
from addon.platform.addons import AddonNotFound, AddonNotReady
from addon.platform.attachments import AttachmentFailed, AttachmentRefused
from addon.platform.heroku_apps import AppNotFound
from addon.platform.models import Addon, App, Attachment, AttachmentState
from addon.platform.provisioning import ProvisionRefused
from addon.platform.transitions import ConcurrentChange, claim

logger = logging.getLogger(__name__)

ROWS_MAX = 100  # of each kind in one run; the next run takes the rest

Clock = Callable[[], datetime]


def reconcile(clock: Clock) -> None:
    """Drive everything that is overdue. `clock` tells the time: calls to providers take long."""
    for app in app_removal.apps_with_remains(ROWS_MAX):
        _run(app.id, partial(_remove_remains, app, clock))
    for addon in _overdue_addons(clock()):
        _run(addon.id, partial(_drive_addon, addon, clock))
    for attachment in _overdue_attachments(clock()):
        _run(attachment.id, partial(_drive_attachment, attachment, clock))


def _run(row_id: object, step: Callable[[], None]) -> None:
    """One row's trouble is not the next one's."""
    try:
        step()
    except (ProvisionRefused, AttachmentRefused, AttachmentFailed) as outcome:
        # Where a user waits these are the answer; here the row already says what comes next.
        logger.warning("reconciled %s: %s", row_id, type(outcome).__name__)
    except (ConcurrentChange, AppNotFound, AddonNotFound, AddonNotReady) as overtaken:
        logger.info("reconciling %s was overtaken: %s", row_id, overtaken)
    except Exception:
        logger.exception("reconciling %s failed; it is tried again when its lease ends", row_id)


def _overdue_addons(now: datetime) -> Iterable[Addon]:
    waiting = Addon.objects.filter(
        # One that is provisioned is due when its provider may have another plan than it.
        state__in=[State.PROVISIONING, State.PROVISIONED, State.DEPROVISIONING],
        next_attempt_at__lte=now,
    )
    related = waiting.select_related("app__owner", "service", "plan")
    return list(related.order_by("next_attempt_at")[:ROWS_MAX])


def _remove_remains(app: App, clock: Clock) -> None:
    app_removal.remove_remains(app, app.owner, clock())


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


def _overdue_attachments(now: datetime) -> Iterable[Attachment]:
    waiting = Attachment.objects.filter(
        # The first attachment of an add-on that is provisioning comes with that add-on.
        addon__state__in=[State.PROVISIONED, State.DEPROVISIONING],
        # One that is attached is due when its provider may have another name of the app.
        state__in=AttachmentState.values,
        next_attempt_at__lte=now,
    )
    related = waiting.select_related("addon__service", "addon__app", "app__owner")
    return list(related.order_by("next_attempt_at")[:ROWS_MAX])


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
