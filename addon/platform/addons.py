"""Add-ons: found, listed, resolved from whatever a user may call one."""

import json
from collections.abc import Iterable
from uuid import UUID

from django.db.models import F, Q, QuerySet

from addon.json_api import find_uuid, is_storable
from addon.lifecycle import State
from addon.platform.heroku_apps import get_app
from addon.platform.models import Account, Addon, App, Attachment, AttachmentState, ConfigVar


class AddonNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("Couldn't find that add on.")


class AddonNotReady(Exception):
    """The add-on is not in a state in which this can be done."""


def list_addons(account: Account) -> QuerySet[Addon]:
    """The account's add-ons; one that is deprovisioned does not exist any more."""
    mine = Addon.objects.filter(app__owner=account).exclude(state=State.DEPROVISIONED)
    return mine.select_related("app", "service", "plan").order_by("created_at", "id")


def list_app_addons(app: App) -> QuerySet[Addon]:
    """The add-ons that `app` owns, not those that it merely has attached."""
    return list_addons(app.owner).filter(app=app)


def get_addon(account: Account, identity: str) -> Addon:
    """By id or name. Another account's add-on is not found. Raises AddonNotFound."""
    return _get(list_addons(account), identity)


def get_app_addon(app: App, identity: str) -> Addon:
    return _get(list_app_addons(app), identity)


def _get(addons: QuerySet[Addon], identity: str) -> Addon:
    addon = _by_identity(addons, identity).first()
    if addon is None:
        raise AddonNotFound
    return addon


def _by_identity(addons: QuerySet[Addon], identity: str) -> QuerySet[Addon]:
    addon_id = find_uuid(identity)
    if addon_id is not None:
        return addons.filter(id=addon_id)
    return addons.filter(name=identity) if is_storable(identity) else addons.none()


def resolve_addons(account: Account, identity: str, app_identity: str | None) -> list[Addon]:
    """The add-ons that `identity` may mean, at least one; several for a service slug.

    In this order: the id or name of an add-on, the id of an attachment, `app::ALIAS`, and with an
    app an attachment's name and a service's name. Raises AddonNotFound, AppNotFound.
    """
    if "::" in identity:
        app_identity, _, identity = identity.partition("::")
    app = get_app(account, app_identity) if app_identity else None
    addons = list_addons(account)
    for meaning in _meanings(addons, identity, app):
        found = list(meaning)
        if found:
            return found
    raise AddonNotFound


def _meanings(addons: QuerySet[Addon], identity: str, app: App | None) -> Iterable[QuerySet[Addon]]:
    yield _by_identity(addons, identity)
    attachment_id = find_uuid(identity)
    if attachment_id is not None:
        yield addons.filter(_is_attached(Q(id=attachment_id)))
    elif app is not None and is_storable(identity):
        yield addons.filter(_is_attached(Q(app=app, name=identity.upper())))
        yield addons.filter(Q(app=app) | _is_attached(Q(app=app)), service__name=identity)


def _is_attached(which: Q) -> Q:
    visible = Attachment.objects.exclude(state=AttachmentState.DETACHING)
    return Q(id__in=visible.filter(which).values("addon_id"))


def config_var_names(addons: Iterable[Addon]) -> dict[UUID, list[str]]:
    """By add-on, the config vars that it gives the app that owns it."""
    names: dict[UUID, list[str]] = {addon.id: [] for addon in addons}
    vars_on_owner = ConfigVar.objects.filter(
        attachment__addon__in=names, app=F("attachment__addon__app")
    )
    for addon_id, name in vars_on_owner.order_by("name").values_list("attachment__addon", "name"):
        names[addon_id].append(name)
    return names


def resource_config(addon: Addon) -> dict[str, str]:
    """The config that all attachments share, of a service without attachment credentials."""
    stored: dict[str, str] = json.loads(addon.resource_config or "{}")
    return stored
