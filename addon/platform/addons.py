"""Add-ons: found, listed, resolved from whatever a user may call one."""

import json
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from addon.config_names import config_var_name
from addon.json_api import find_uuid, is_storable
from addon.lifecycle import State
from addon.platform.access import Permission, require, visible_to
from addon.platform.heroku_apps import get_app
from addon.platform.models import Account, Addon, App, Attachment, AttachmentState, ConfigVar


class AddonNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("Couldn't find that add on.")


class AddonNotReady(Exception):
    """The add-on is not in a state in which this can be done."""


class MultipleMatches(Exception):
    """What the user calls an add-on may mean several; the text names them."""

    def __init__(self, found: Iterable[Addon]) -> None:
        names = ", ".join(addon.name for addon in found)
        super().__init__(f"Ambiguous identifier; multiple matching add-ons found: {names}.")


def list_addons(account: Account) -> QuerySet[Addon]:
    """The add-ons of all apps that `account` may see; a deprovisioned one does not exist."""
    return _live().filter(visible_to(account, "app__"))


def list_app_addons(app: App) -> QuerySet[Addon]:
    """The add-ons that `app` owns, and those of other apps that are attached to it."""
    return _live().filter(Q(app=app) | _is_attached(Q(app=app)))


def _live() -> QuerySet[Addon]:
    addons = Addon.objects.filter(failed_at=None).exclude(state=State.DEPROVISIONED)
    return addons.select_related("app", "service", "plan").order_by("created_at", "id")


def get_addon(account: Account, identity: str) -> Addon:
    """By id, name, `app::ALIAS`, or an attachment's name or id.

    Raises AddonNotFound, AppNotFound, MultipleMatches.
    """
    found = _find(account, identity, None, _visible(account))
    return _only(found or _find_failed(account, identity))


def get_app_addon(account: Account, app: App, identity: str) -> Addon:
    """Likewise, of those that `app` owns or has attached."""
    return _only(
        _find(account, identity, app, list_app_addons(app))
        or [addon for addon in _find_failed(account, identity) if addon.app_id == app.id]
    )


def _find_failed(account: Account, identity: str) -> list[Addon]:
    """The newest that was never provisioned: whoever waits for it is to see what became of it."""
    failed = Addon.objects.filter(visible_to(account, "app__")).exclude(failed_at=None)
    related = failed.select_related("app", "service", "plan").order_by("-failed_at")
    return list(_by_identity(related, identity)[:1])


def get_own_addon(account: Account, app: App, identity: str) -> Addon:
    """Likewise, of those that `app` owns, to be changed or destroyed.

    Raises AddonNotFound, MultipleMatches, and Forbidden without the permission to.
    """
    addon = _only(_find(account, identity, app, _live().filter(app=app)))
    require(addon.app, account, Permission.OPERATE)
    return addon


def _only(found: Sequence[Addon]) -> Addon:
    if not found:
        raise AddonNotFound
    if len(found) > 1:
        raise MultipleMatches(found)
    return found[0]


def _by_identity(addons: QuerySet[Addon], identity: str) -> QuerySet[Addon]:
    addon_id = find_uuid(identity)
    if addon_id is not None:
        return addons.filter(id=addon_id)
    return addons.filter(name=identity) if is_storable(identity) else addons.none()


def resolve_addons(
    account: Account, identity: str, app_identity: str | None, service: str | None = None
) -> list[Addon]:
    """The add-ons that `identity` may mean, at least one; several for a service's name, or for an
    attachment's name without an app. Only those of `service`, where one is given by name or id.

    In this order: the id or name of an add-on, the id of an attachment, `app::ALIAS` or an
    attachment's name, and with an app a service's name. With an app what is on it comes first, and
    then any add-on that is owned by, or attached to, an app that `account` may see.
    Raises AddonNotFound, AppNotFound.
    """
    found: list[Addon] = []
    of_service = Q() if service is None else service_is(service)
    app = get_app(account, app_identity) if app_identity else None
    if app is not None:
        here = list_app_addons(app).filter(of_service)
        found = _find(account, identity, app, here)
        if not found and is_storable(identity):
            found = list(here.filter(service__name=identity))
    found = found or _find(account, identity, app, _visible(account).filter(of_service))
    if not found:
        raise AddonNotFound
    return found


def service_is(identity: str, path: str = "service") -> Q:
    """By name or id; `path` leads to the service from the rows that are filtered."""
    service_id = find_uuid(identity)
    if service_id is not None:
        return Q(**{f"{path}_id": service_id})
    return Q(**{f"{path}__name": identity})


def _visible(account: Account) -> QuerySet[Addon]:
    """What `account` may call by a name: also what others own and its apps have attached."""
    visible = visible_to(account, "app__")
    return _live().filter(visible | _is_attached(visible))


def _find(account: Account, identity: str, app: App | None, addons: QuerySet[Addon]) -> list[Addon]:
    """Those of `addons` by the first meaning of `identity` that fits any; perhaps none.

    Raises AppNotFound.
    """
    if "::" in identity:
        app_identity, _, identity = identity.partition("::")
        app = get_app(account, app_identity)
    for meaning in _meanings(account, addons, identity, app):
        if found := list(meaning):
            return found
    return []


def _meanings(
    account: Account, addons: QuerySet[Addon], identity: str, app: App | None
) -> Iterable[QuerySet[Addon]]:
    yield _by_identity(addons, identity)
    attachment_id = find_uuid(identity)
    if attachment_id is not None:
        yield addons.filter(_is_attached(Q(id=attachment_id)))
    elif is_storable(identity):
        on = visible_to(account, "app__") if app is None else Q(app=app)
        yield addons.filter(_is_attached(on & Q(name=identity.upper())))


def _is_attached(which: Q) -> Q:
    visible = Attachment.objects.exclude(state=AttachmentState.DETACHING)
    return Q(id__in=visible.filter(which).values("addon_id"))


def visible_apps(account: Account, addons: Iterable[Addon]) -> set[UUID]:
    """Which of the apps that own `addons` may be seen; others have them attached only."""
    owners = {addon.app_id: addon.app.owner_id for addon in addons}
    if all(owner_id == account.id for owner_id in owners.values()):
        return set(owners)
    return set(App.objects.filter(visible_to(account), id__in=owners).values_list("id", flat=True))


def config_var_names(addons: Iterable[Addon]) -> dict[UUID, list[str]]:
    """By add-on, the config vars that it gives the app that owns it."""
    names: dict[UUID, list[str]] = {addon.id: [] for addon in addons}
    with connection.cursor() as cursor:
        cursor.execute(_VARS_ON_OWNER, [list(names)])
        for addon_id, name in cursor.fetchall():
            names[addon_id].append(name)
    return names


_VARS_ON_OWNER = """
    SELECT addon.id, var.name FROM platform_addon addon
    JOIN platform_attachment attachment ON attachment.addon_id = addon.id
    JOIN platform_configvar var
        ON var.attachment_id = attachment.id AND var.app_id = addon.app_id
    WHERE addon.id = ANY(%s) ORDER BY var.name
"""


def attached_var_names(
    account: Account, attachments: Iterable[Attachment]
) -> dict[UUID, list[str]]:
    """By attachment, the config vars that it gives its app; none of an app that one may not see."""
    names: dict[UUID, list[str]] = {attachment.id: [] for attachment in attachments}
    shown = ConfigVar.objects.filter(visible_to(account, "app__"), attachment__in=names)
    for attachment_id, name in shown.order_by("name").values_list("attachment", "name"):
        names[attachment_id].append(name)
    return names


def config_of(addon: Addon) -> dict[str, str]:
    """What its oldest attachment gave the app that owns it, by the names of the manifest."""
    on_owner = addon.attachments.filter(app_id=addon.app_id, state=AttachmentState.ATTACHED)
    attachment = on_owner.order_by("created_at", "id").first()
    if attachment is None:
        return {}
    values = {var.name: var.value for var in attachment.config_vars.all()}
    service = addon.service
    names = {
        name: config_var_name(attachment.name, service.config_vars_prefix, name)
        for name in service.config_vars
    }
    return {name: values[var] for name, var in names.items() if var in values}


def resource_config(addon: Addon) -> dict[str, str]:
    """The config that all attachments share, of a service without attachment credentials."""
    return merged_config(addon, {})


def merged_config(addon: Addon, answered: Mapping[str, str]) -> dict[str, str]:
    """What the provider `answered`, and over it what it has set or unset by calling back."""
    merged = {**answered, **_kept_config(addon)}
    return {name: value for name, value in merged.items() if value is not None}


def _kept_config(addon: Addon) -> dict[str, str | None]:
    kept: dict[str, str | None] = json.loads(addon.resource_config or "{}")
    return kept


def keep_config(addon: Addon, changes: Mapping[str, str | None]) -> dict[str, str]:
    """Set what has a value and unset what has None, in what resource_config() says; all of it."""
    addon.resource_config = json.dumps({**_kept_config(addon), **changes})
    addon.save(update_fields=["resource_config"])
    return resource_config(addon)
