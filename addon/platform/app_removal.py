"""Destroying an app: its name is free at once, its add-ons and attachments go after it."""

from datetime import datetime

from django.db import transaction
from django.db.models import F, QuerySet

from addon.lifecycle import State
from addon.platform import attachments, provisioning
from addon.platform.addons import AddonNotFound
from addon.platform.changes import Change, Kind, announce
from addon.platform.heroku_apps import lock_app
from addon.platform.models import Account, Addon, App, Attachment, AttachmentState
from addon.platform.transitions import ConcurrentChange


def destroy_app(app: App, account: Account, now: datetime) -> App:
    """Destroy `app`, its add-ons wherever they are attached, and its attachments.

    Raises AppNotFound. What a provider does not confirm is left to the reconciler.
    """
    with transaction.atomic():
        locked = lock_app(app.id)
        locked.destroyed_at = now
        locked.save(update_fields=["destroyed_at", "updated_at"])
        locked.config_vars.filter(attachment=None).delete()
        announce(
            Change(kind=Kind.APP, action="destroy", app=locked, row=locked, account=account, at=now)
        )
    # From here on nothing can be added to the app, and the reconciler would do the same.
    remove_remains(locked, account, now)
    return locked


def remove_remains(app: App, account: Account, now: datetime) -> None:
    """Take away what a destroyed app still has; safe to repeat."""
    for addon in remaining_addons().filter(app=app):
        try:
            provisioning.destroy(addon, account, now, force=True)
        except AddonNotFound:
            continue  # the reconciler came first
    for attachment in remaining_attachments().filter(app=app):
        try:
            attachments.discard(attachment, account, now)
        except ConcurrentChange:
            continue  # likewise


def remaining_addons() -> QuerySet[Addon]:
    """Those of destroyed apps, which a process that died may have left."""
    live = Addon.objects.filter(state__in=[State.PROVISIONING, State.PROVISIONED])
    return live.exclude(app__destroyed_at=None).select_related("app__owner")


def remaining_attachments() -> QuerySet[Attachment]:
    """Likewise those of other apps' add-ons; what an app's own add-ons had goes with them."""
    current = Attachment.objects.exclude(state=AttachmentState.DETACHING)
    foreign = current.exclude(app__destroyed_at=None).exclude(addon__app=F("app"))
    return foreign.select_related("addon__service", "app__owner")
