"""Which name an attachment gets, and what it would overwrite there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from django.db.models import QuerySet

from addon.config_names import config_var_name, default_alias, parse_alias
from addon.platform.config_vars import ConfigVarOwned, var_names
from addon.platform.models import Addon, App, Attachment, AttachmentState, ConfigVar
from addon.platform.retries import wait_after
from addon.statements import insert
from billing.compiled_queries import CompiledQuery


class AliasTaken(Exception):
    """The app has, or is just getting, an attachment of this name."""


class LastAttachment(Exception):
    """An add-on always stays attached to the app that owns it."""

    def __init__(self, attachment: Attachment) -> None:
        addon, app = attachment.addon.name, attachment.app.name
        super().__init__(
            f"{attachment.name} is the last attachment of {addon} to {app}, the app that owns it. "
            f"Destroy the add-on with `heroku addons:destroy {addon} -a {app}`, or attach it under "
            f"another name first with `heroku addons:attach {addon} -a {app} --as OTHER_NAME`"
        )


class ConfirmationRequired(Exception):
    """Something would be overwritten; repeat with `confirm` = the app's name to do so."""

    def __init__(self, app: App, message: str) -> None:
        super().__init__(message)
        self.app_name = app.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What the user asks for: a name or none, and perhaps the confirmation of an overwrite.

    `id` is the same when a request is repeated; None where that is told otherwise.
    """

    alias: str | None
    confirm: str | None
    id: UUID | None = None


def reserve(app: App, addon: Addon, wish: Wish, action: str, now: datetime) -> Attachment:
    """An attachment that is `attaching`, leased for the first call to the provider.

    Nothing is overwritten yet: that happens when the attachment's config vars have come. The caller
    holds the lock of `app`. `action` starts the sentence about an overwrite.
    Raises InvalidAlias, AliasTaken, ConfigVarOwned, ConfirmationRequired.
    """
    held = _read_held(app)
    attachment = Attachment(
        id=_free_id(wish),
        addon=addon,
        app=app,
        name=_default(addon, held) if wish.alias is None else parse_alias(wish.alias),
        state=AttachmentState.ATTACHING,
        attempts=1,
        next_attempt_at=now + wait_after(1),
        created_at=now,
        updated_at=now,
    )
    names = var_names(attachment)
    _refuse_names_under_way(attachment, names, held)
    overwritten = held.find_attached(attachment.name)
    if overwritten is not None and overwritten.addon_id == addon.id:
        raise AliasTaken(f"{addon.name} is already attached to {app.name} as {attachment.name}")
    user_vars = _user_vars(names, overwritten, held)
    if overwritten is not None or user_vars:
        if overwritten is not None and is_last(overwritten):
            raise AliasTaken(
                f"{attachment.name} is the only name of {overwritten.addon.name} on {app.name}, "
                "which would be left without one: choose another name with --as"
            )
        if wish.confirm not in {app.name, str(app.id)}:
            raise ConfirmationRequired(app, _overwrites(action, overwritten, user_vars))
    insert(attachment)
    return attachment


@dataclass(frozen=True, kw_only=True, slots=True)
class _Held:
    """What an app has already: attachments that are attached or attaching, and for the name of each
    config var the attachment that owns it, None for the user."""

    attachments: Sequence[Attachment]
    owners: Mapping[str, UUID | None]

    def find_attached(self, name: str) -> Attachment | None:
        attached = (row for row in self.attachments if row.state == AttachmentState.ATTACHED)
        return next((row for row in attached if row.name == name), None)


def _read_held(app: App) -> _Held:
    return _Held(attachments=_current_of.all(app.id), owners=dict(_var_owners.all(app.id)))


@CompiledQuery
def _current_of(app_id: UUID) -> QuerySet[Attachment]:
    return Attachment.objects.filter(app_id=app_id).exclude(state=AttachmentState.DETACHING)


@CompiledQuery
def _var_owners(app_id: UUID) -> QuerySet[ConfigVar, tuple[str, UUID | None]]:
    found = ConfigVar.objects.filter(app_id=app_id)
    return found.order_by("name").values_list("name", "attachment_id")


def _free_id(wish: Wish) -> UUID:
    """What a refused request left is not taken again."""
    if wish.id is None or Attachment.objects.filter(id=wish.id).exists():
        return uuid4()
    return wish.id


def _default(addon: Addon, held: _Held) -> str:
    service = addon.service
    taken = {attachment.name for attachment in held.attachments}

    def is_taken(alias: str) -> bool:
        names = (
            config_var_name(alias, service.config_vars_prefix, name) for name in service.config_vars
        )
        return alias in taken or not held.owners.keys().isdisjoint(names)

    return default_alias(service.config_vars_prefix, is_taken)


def _refuse_names_under_way(attachment: Attachment, names: Sequence[str], held: _Held) -> None:
    for other in held.attachments:
        if other.state != AttachmentState.ATTACHING:
            continue
        if other.name == attachment.name or not set(names).isdisjoint(var_names(other)):
            raise AliasTaken(
                f"{other.addon.name} is just being attached to {attachment.app.name} as "
                f"{other.name}; choose another name than {attachment.name}"
            )


def _user_vars(names: Sequence[str], overwritten: Attachment | None, held: _Held) -> list[str]:
    """Those of `names` that the user set. Raises ConfigVarOwned for another attachment's."""
    existing = [name for name in held.owners if name in names]
    for name in existing:
        owner_id = held.owners[name]
        if owner_id is not None and (overwritten is None or owner_id != overwritten.id):
            owner = next(row for row in held.attachments if row.id == owner_id)
            raise ConfigVarOwned(name, owner.addon)
    return [name for name in existing if held.owners[name] is None]


def _overwrites(action: str, overwritten: Attachment | None, user_vars: Sequence[str]) -> str:
    parts = []
    if overwritten is not None:
        parts.append(f"attachment {overwritten.name} from {overwritten.addon.name}")
    if user_vars:
        parts.append(f"vars {', '.join(user_vars)}")
    return f"{action} would overwrite existing {' and '.join(parts)}."


def find_attached(app: App, name: str) -> Attachment | None:
    return _attached.first(app.id, name)


@CompiledQuery
def _attached(app_id: UUID, name: str) -> QuerySet[Attachment]:
    return Attachment.objects.filter(app_id=app_id, name=name, state=AttachmentState.ATTACHED)


def is_last(attachment: Attachment) -> bool:
    """Whether its add-on has no other on the app that owns it. The caller holds the app's lock."""
    if attachment.app_id != attachment.addon.app_id:
        return False
    on_owner = attachment.app.attachments.filter(addon_id=attachment.addon_id)
    # One that is about to be overwritten does not count.
    going = attachment.app.attachments.filter(state=AttachmentState.ATTACHING).values("name")
    staying = on_owner.filter(state=AttachmentState.ATTACHED).exclude(name__in=going)
    return not staying.exclude(id=attachment.id).exists()
