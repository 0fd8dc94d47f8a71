"""Attachments: listed, found, resolved. What may happen to one is in attachments.py."""

from django.db.models import QuerySet

from addon.json_api import find_uuid, is_storable
from addon.platform.access import visible_to
from addon.platform.addons import service_is
from addon.platform.attachments import AttachmentNotFound
from addon.platform.heroku_apps import get_app
from addon.platform.models import Account, Addon, App, Attachment, AttachmentState


def list_attachments(account: Account) -> QuerySet[Attachment]:
    """All on the apps that `account` may see, and all of those apps' add-ons."""
    return _current().filter(visible_to(account, "app__") | visible_to(account, "addon__app__"))


def _current() -> QuerySet[Attachment]:
    """One that is detaching does not exist any more."""
    current = Attachment.objects.exclude(state=AttachmentState.DETACHING)
    related = current.select_related("addon__app", "addon__service", "addon__plan", "app")
    return related.order_by("created_at", "id")


def list_addon_attachments(account: Account, addon: Addon) -> QuerySet[Attachment]:
    return list_attachments(account).filter(addon=addon)


def list_app_attachments(app: App) -> QuerySet[Attachment]:
    return _current().filter(app=app)


def get_attachment(account: Account, identity: str) -> Attachment:
    """By id only: a name says nothing without its app. Raises AttachmentNotFound."""
    attachment_id = find_uuid(identity)
    if attachment_id is None:
        raise AttachmentNotFound
    return _first(list_attachments(account).filter(id=attachment_id))


def get_addon_attachment(account: Account, addon: Addon, identity: str) -> Attachment:
    """By id only, as above. Raises AttachmentNotFound."""
    attachment = get_attachment(account, identity)
    if attachment.addon_id != addon.id:
        raise AttachmentNotFound
    return attachment


def get_of(attachments: QuerySet[Attachment], identity: str) -> Attachment:
    """The one of an app's `attachments` by id or name. Raises AttachmentNotFound."""
    return _first(_by_identity(attachments, identity))


def resolve_attachments(
    account: Account, identity: str, app_identity: str | None, service: str | None = None
) -> list[Attachment]:
    """By id, name or `app::ALIAS`, at least one; several for a name that several apps have. Only
    those of `service`, where one is given by name or id.

    Raises AttachmentNotFound, AppNotFound.
    """
    if "::" in identity:
        app_identity, _, identity = identity.partition("::")
    attachments = list_attachments(account)
    if service is not None:
        attachments = attachments.filter(service_is(service, "addon__service"))
    if app_identity:
        attachments = attachments.filter(app=get_app(account, app_identity))
    found = list(_by_identity(attachments, identity))
    if not found:
        raise AttachmentNotFound
    return found


def _by_identity(attachments: QuerySet[Attachment], identity: str) -> QuerySet[Attachment]:
    attachment_id = find_uuid(identity)
    if attachment_id is not None:
        return attachments.filter(id=attachment_id)
    if not is_storable(identity):
        return attachments.none()
    # During an overwrite two have the name, and the attached one is what its config vars belong to.
    return attachments.filter(name=identity.upper()).order_by("-state")


def _first(attachments: QuerySet[Attachment]) -> Attachment:
    attachment = attachments.first()
    if attachment is None:
        raise AttachmentNotFound
    return attachment
