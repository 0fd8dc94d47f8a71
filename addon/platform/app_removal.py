"""Destroying an app: its name is free at once, its add-ons and attachments go after it."""

from datetime import datetime

from django.db import transaction

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
        announce(
            Change(kind=Kind.APP, action="destroy", app=locked, row=locked, account=account, at=now)
        )
    # From here on nothing can be added to the app, and the reconciler would do the same.
    remove_remains(locked, account, now)
    return locked


def remove_remains(app: App, account: Account, now: datetime) -> None:
    """Take away what a destroyed app still has; safe to repeat."""
    for addon in Addon.objects.filter(app=app, state__in=[State.PROVISIONING, State.PROVISIONED]):
        try:
            provisioning.destroy(addon, account, now, force=True)
        except AddonNotFound:
            continue  # the reconciler came first
    for attachment in _foreign_attachments(app):
        try:
            attachments.discard(attachment, account, now)
        except ConcurrentChange:
            continue  # likewise
    app.config_vars.filter(attachment=None).delete()


def _foreign_attachments(app: App) -> list[Attachment]:
    left = app.attachments.exclude(state=AttachmentState.DETACHING)
    return list(left.select_related("addon__service", "app"))


def apps_with_remains(limit: int) -> list[App]:
    """Destroyed apps of which a process that died left something."""
    destroyed = App.objects.exclude(destroyed_at=None).select_related("owner")
    live = Addon.objects.filter(state__in=[State.PROVISIONING, State.PROVISIONED])
    attached = Attachment.objects.exclude(state=AttachmentState.DETACHING)
    owners = destroyed.filter(id__in=live.values("app_id"))
    users = destroyed.filter(id__in=attached.values("app_id"))
    return list((owners | users)[:limit])
