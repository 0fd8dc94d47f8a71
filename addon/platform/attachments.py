"""Attaching an add-on to one more app or under one more name, and detaching it."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import assert_never
from uuid import UUID, uuid4

from django.db import transaction

from addon.lifecycle import State
from addon.platform import config_vars, provider_client
from addon.platform.access import Permission, permissions_on, require
from addon.platform.addons import AddonNotFound, AddonNotReady, resource_config
from addon.platform.aliases import LastAttachment, Wish, find_attached, is_last, reserve
from addon.platform.changes import Action, Actor, Change, Kind, announce
from addon.platform.heroku_apps import AppNotFound, lock_app
from addon.platform.models import Account, Addon, App, Attachment, AttachmentState
from addon.platform.provider_client import Accepted, Done, Gone, Refused, Reply, Uncertain
from addon.platform.releases import create_release
from addon.platform.retries import CALL_IS_OVER, wait_after
from addon.platform.transitions import held, move_attachment

logger = logging.getLogger(__name__)


class SharingNotSupported(Exception):
    """The service's add-ons can only be used by the app that owns them."""


class AttachmentRefused(Exception):
    """The provider's message is for the user."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.status = refused.status


class AttachmentFailed(Exception):
    """The provider gave no clear answer; nothing was changed on the app."""

    def __init__(
        self,
        addon: Addon,
        why: str = "could not be reached or did not answer as expected; please try again later",
    ) -> None:
        super().__init__(f"Nothing was attached: the provider of {addon.name} {why}")


class GoneAtProvider(AttachmentFailed):
    """The provider had an attachment of this id, or an add-on, and removed it."""


class AttachmentNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("Couldn't find that add on attachment.")


def attach(addon: Addon, app: App, account: Account, wish: Wish, now: datetime) -> Attachment:
    """Attach `addon` to `app`: [transaction] row, provider call, [transaction] vars and release.

    A wish that was fulfilled already changes nothing. Raises Forbidden, what aliases.reserve()
    raises, AddonNotReady, SharingNotSupported, AttachmentRefused, AttachmentFailed,
    ConcurrentChange, AddonNotFound, AppNotFound.
    """
    is_shared = app.id != addon.app_id
    require(app, account, Permission.DEPLOY)
    require(addon.app, account, Permission.OPERATE if is_shared else Permission.DEPLOY)
    try:
        return _attach(addon, app, account, wish, now)
    except GoneAtProvider:  # the same request was carried out before, and detached since
        return _attach(addon, app, account, replace(wish, id=uuid4()), now)


def _attach(addon: Addon, app: App, account: Account, wish: Wish, now: datetime) -> Attachment:
    with transaction.atomic():
        locked_addon = _lock_ready_addon(addon.id, now)
        if app.id != locked_addon.app_id and not locked_addon.service.supports_sharing:
            raise SharingNotSupported(
                f"{addon.service.name} add-ons cannot be attached to other apps than their own"
            )
        locked_app = lock_app(app.id)
        made = _find_made(wish.id, app)
        if made is not None:
            return made
        action = f"Attaching {addon.name} to app {app.name}"
        attachment = reserve(locked_app, locked_addon, wish, action, now)
    drive_attaching(attachment, account, now)
    return attachment


def _find_made(attachment_id: UUID | None, app: App) -> Attachment | None:
    """What the same request has made before it was repeated."""
    if attachment_id is None:
        return None
    made = Attachment.objects.filter(id=attachment_id, app=app)
    current = made.exclude(state=AttachmentState.DETACHING)
    return current.select_related("addon__app", "addon__service", "app").first()


def _lock_ready_addon(addon_id: UUID, now: datetime) -> Addon:
    locked = Addon.objects.select_for_update(of=("self",)).select_related("service", "app", "plan")
    addon = locked.filter(id=addon_id).exclude(state=State.DEPROVISIONED).first()
    if addon is None:
        raise AddonNotFound
    if addon.state != State.PROVISIONED:
        raise AddonNotReady(f"{addon.name} is {addon.state}; it can be attached once provisioned")
    if addon.next_attempt_at is not None and addon.next_attempt_at > now:
        raise AddonNotReady(f"The plan of {addon.name} is being changed; please try again")
    return addon


def drive_attaching(attachment: Attachment, account: Account, now: datetime) -> None:
    """Take an attachment that is `attaching` to its end; safe to repeat.

    Raises AttachmentRefused, AttachmentFailed, and ConcurrentChange when it was detached meanwhile.
    """
    reply = _ask_for_config(attachment)
    match reply:
        case Done(config=config):
            _finish_attaching(attachment, config, account, now)
        case Refused():
            _withdraw(attachment, now)
            raise AttachmentRefused(reply)
        case Gone():
            _withdraw(attachment, now)
            raise GoneAtProvider(attachment.addon)
        case Accepted():
            _withdraw(attachment, now)
            raise AttachmentFailed(
                attachment.addon,
                "answered 202, to do it in the background; it has to attach at once",
            )
        case Uncertain():
            _withdraw(attachment, now)
            raise AttachmentFailed(attachment.addon)
        case _:
            assert_never(reply)


def _ask_for_config(attachment: Attachment) -> Reply:
    if attachment.addon.service.attachment_credentials:
        with held(attachment):
            return provider_client.attach(attachment)
    return Done(config=resource_config(attachment.addon))


def _finish_attaching(
    attachment: Attachment, config: Mapping[str, str], account: Account, now: datetime
) -> None:
    with transaction.atomic():
        if not attachment.addon.service.attachment_credentials:
            # Its provider may have changed it since the add-on was read.
            config = resource_config(Addon.objects.select_for_update().get(id=attachment.addon_id))
        finish(attachment, config, account, now)


def finish(
    attachment: Attachment, config: Mapping[str, str], account: Actor, now: datetime
) -> None:
    """Config vars, `attached`, one release. Within a transaction.

    Raises AppNotFound, and ConcurrentChange when the attachment is not `attaching` any more.
    """
    told, attachment.app = attachment.app.name, lock_app(attachment.app_id)
    knows_app = attachment.addon.service.attachment_credentials
    was_renamed = knows_app and attachment.app.name != told  # while the provider was asked
    overwritten = find_attached(attachment.app, attachment.name)
    if overwritten is not None:
        _release_name(overwritten, account, now, next_attempt_at=now)
    next_attempt_at = now if was_renamed else None
    move_attachment(attachment, AttachmentState.ATTACHED, now, next_attempt_at)
    config_vars.write_attached(attachment, config)
    description = f"Attach {attachment.name} ({attachment.addon.name})"
    create_release(attachment.app, account, description, now)
    _announce(attachment, "create", account, now)


def _withdraw(attachment: Attachment, now: datetime) -> None:
    """Nothing came of it for the user. What the provider may have of it is removed later."""
    later = now + CALL_IS_OVER
    move_attachment(attachment, AttachmentState.DETACHING, now, next_attempt_at=later)


def _release_name(
    attachment: Attachment, account: Actor, now: datetime, next_attempt_at: datetime | None
) -> None:
    if attachment.state == AttachmentState.ATTACHED:
        _announce(attachment, "destroy", account, now)
    attachment.config_vars.all().delete()
    move_attachment(attachment, AttachmentState.DETACHING, now, next_attempt_at)


def _announce(attachment: Attachment, action: Action, account: Actor, now: datetime) -> None:
    change = Change(
        kind=Kind.ATTACHMENT,
        action=action,
        app=attachment.app,
        row=attachment,
        account=account,
        at=now,
    )
    announce(change)


def detach(attachment: Attachment, account: Account, now: datetime) -> None:
    """[transaction] vars, release, `detaching`; then the provider, and the row is gone.

    Raises Forbidden, LastAttachment, AttachmentNotFound when it is detached already, AppNotFound.
    """
    _require_to_detach(attachment, account)
    with transaction.atomic():
        app = lock_app(attachment.app_id)
        current = _get_current(attachment.id)
        if is_last(current):
            raise LastAttachment(current)
        was_attached = current.state == AttachmentState.ATTACHED
        # One that is still attaching may have a call under way that a removal must not overtake.
        lease = wait_after(1) if was_attached else CALL_IS_OVER
        _release_name(current, account, now, next_attempt_at=now + lease)
        if was_attached:
            description = f"Detach {current.name} ({current.addon.name})"
            create_release(app, account, description, now)
    if was_attached:
        remove_detached(current)


def _require_to_detach(attachment: Attachment, account: Account) -> None:
    """Whoever may deploy the app, or decides about the add-on."""
    if Permission.OPERATE not in permissions_on(attachment.addon.app, account):
        require(attachment.app, account, Permission.DEPLOY)


def _get_current(attachment_id: UUID) -> Attachment:
    found = Attachment.objects.exclude(state=AttachmentState.DETACHING).filter(id=attachment_id)
    attachment = found.select_related("addon__service", "app").first()
    if attachment is None:
        raise AttachmentNotFound
    return attachment


def remove_detached(attachment: Attachment) -> bool:
    """Remove a `detaching` attachment at the provider, then its row; safe to repeat.

    False when the provider gave no clear answer: the reconciler will ask again.
    """
    if attachment.addon.service.attachment_credentials:
        with held(attachment):
            reply = provider_client.detach(attachment)
        if isinstance(reply, Uncertain):
            return False
    Attachment.objects.filter(id=attachment.id, state=AttachmentState.DETACHING).delete()
    return True


def tell_app_name(attachment: Attachment) -> None:
    """Tell the provider what the app is called since it was renamed; safe to repeat."""
    with held(attachment):
        reply = provider_client.attach(attachment)
    is_refused = isinstance(reply, Refused) and reply.is_final
    if not isinstance(reply, Done | Accepted | Gone) and not is_refused:
        return  # asked again when the lease ends
    if not isinstance(reply, Done | Accepted):
        logger.warning("%s: the provider answered a new app name by %s", attachment.id, reply)
    claimed = Attachment.objects.filter(
        id=attachment.id,
        state=AttachmentState.ATTACHED,
        next_attempt_at=attachment.next_attempt_at,
    )
    claimed.update(next_attempt_at=None, attempts=0)


def discard(attachment: Attachment, account: Account, now: datetime) -> None:
    """Detach from an app that was destroyed: no rule holds it there, and no release tells of it."""
    with transaction.atomic():
        _release_name(attachment, account, now, next_attempt_at=now + wait_after(1))
    remove_detached(attachment)


def withdraw_all(addon: Addon, account: Actor, now: datetime) -> None:
    """Take `addon` off every app: its vars, one release per app, its names. No call is made.

    Within a transaction that holds the add-on's lock; the rows go when the add-on is deprovisioned.
    """
    remaining = addon.attachments.exclude(state=AttachmentState.DETACHING)
    for app_id in sorted(set(remaining.values_list("app_id", flat=True))):
        try:
            app = lock_app(app_id)
        except AppNotFound:
            app = None  # a destroyed app needs no release, only its rows cleared
        _withdraw_from(app_id, app, addon, account, now)


def _withdraw_from(
    app_id: UUID, app: App | None, addon: Addon, account: Actor, now: datetime
) -> None:
    gone = []
    here = addon.attachments.exclude(state=AttachmentState.DETACHING).filter(app_id=app_id)
    for attachment in here.select_related("app", "addon__app").order_by("name"):
        if attachment.state == AttachmentState.ATTACHED:
            gone.append(attachment.name)
        _release_name(attachment, account, now, next_attempt_at=None)
    if app is not None and gone:
        create_release(app, account, f"Detach {', '.join(gone)} ({addon.name})", now)
