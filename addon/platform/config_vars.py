"""Config vars: set by the user, or owned by an attachment and then written by nobody else."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction

from addon.config_names import config_var_name
from addon.platform.heroku_apps import lock_app
from addon.platform.models import (
    Account,
    Addon,
    App,
    Attachment,
    AttachmentState,
    ConfigVar,
    Release,
)
from addon.platform.releases import create_release, user_config_of_release, versions_of
from addon.statements import insert_or_update

NAME_PATTERN = re.compile(r"\w{1,256}", re.ASCII)
VALUE_MAX_CHARACTERS = 32_768
VARS_MAX = 1000
NAMES_MAX = 20  # in the description of a release
# Heroku's, for the user's config vars of an app together: every release keeps a copy of them.
CONFIG_MAX_BYTES = 65_536


class InvalidConfigVar(Exception):
    """A name or a value is not allowed; the text names the var."""


class NotEligible(Exception):
    """There is nothing to roll back to."""


class ConfigVarOwned(Exception):
    """An attachment owns the config var."""

    def __init__(self, name: str, addon: Addon) -> None:
        super().__init__(
            f"Cannot destroy or overwrite config var {name} from attached add-on {addon.name}."
        )


def config_of(app: App) -> dict[str, str]:
    return {var.name: var.value for var in app.config_vars.order_by("name")}


def change_config(
    app: App, account: Account, changes: Mapping[str, str | None], now: datetime
) -> dict[str, str]:
    """Set the vars that have a value, unset those that have None; the whole config afterwards.

    One release, and none when nothing changes. A var of an attachment may be given with the value
    that it has, for `heroku config:edit` sends all of them back.
    Raises InvalidConfigVar, ConfigVarOwned.
    """
    _validate(changes)
    with transaction.atomic():
        locked = lock_app(app.id)
        current = {var.name: var for var in locked.config_vars.select_related("attachment__addon")}
        different = {
            name: value
            for name, value in changes.items()
            if value != (current[name].value if name in current else None)
        }
        _refuse_owned(locked, current, different)
        _refuse_too_long(current, different)
        if different:
            _write(locked, different)
            create_release(locked, account, _description(different), now)
        return config_of(locked)


def roll_back(app: App, release: Release, account: Account, now: datetime, new_id: UUID) -> Release:
    """Give the user's config vars the values that they had with `release`; a new release, or with
    the same `new_id` again the one that was made.

    What attachments own stays as it is: add-ons are not rolled back. Raises NotEligible and
    NoSnapshot.
    """
    wanted = user_config_of_release(release)
    with transaction.atomic():
        locked = lock_app(app.id)
        made = locked.releases.filter(id=new_id).first()
        if made is not None:
            return made
        if release.version == versions_of(locked).current:
            raise NotEligible(f"v{release.version} is the current release already")
        current = {var.name: var for var in locked.config_vars.all()}
        owned = {name for name, var in current.items() if var.attachment_id is not None}
        owned |= {name for coming in attachments_under_way(locked) for name in var_names(coming)}
        gone = dict.fromkeys(current.keys() - wanted.keys() - owned)
        _write(locked, {**gone, **{name: wanted[name] for name in wanted.keys() - owned}})
        return create_release(locked, account, f"Rollback to v{release.version}", now, new_id)


def _validate(changes: Mapping[str, str | None]) -> None:
    if len(changes) > VARS_MAX:
        raise InvalidConfigVar(f"At most {VARS_MAX} config vars can be changed at once")
    for name, value in changes.items():
        if not NAME_PATTERN.fullmatch(name):
            raise InvalidConfigVar(
                f"{name[:256]!r} cannot be the name of a config var: use 1 to 256 letters, digits "
                "and underscores"
            )
        if value is not None and len(value) > VALUE_MAX_CHARACTERS:
            raise InvalidConfigVar(
                f"The value of {name} can have at most {VALUE_MAX_CHARACTERS} characters"
            )


def _refuse_owned(
    app: App, current: Mapping[str, ConfigVar], different: Mapping[str, str | None]
) -> None:
    for name in different:
        owner = current[name].attachment if name in current else None
        if owner is not None:
            raise ConfigVarOwned(name, owner.addon)
    # A value set now would be lost when the attachment under way brings its own.
    for attachment in attachments_under_way(app):
        for name in var_names(attachment):
            if different.get(name) is not None:
                raise ConfigVarOwned(name, attachment.addon)


def _refuse_too_long(current: Mapping[str, ConfigVar], different: Mapping[str, str | None]) -> None:
    before = {name: var.value for name, var in current.items() if var.attachment_id is None}
    now_has, had = _bytes({**before, **different}), _bytes(before)
    # One that is beyond it already can still be made smaller.
    if now_has > max(had, CONFIG_MAX_BYTES):
        raise InvalidConfigVar(
            f"The names and values of an app's config vars can have at most {CONFIG_MAX_BYTES} "
            f"bytes together, those of add-ons aside; they would have {now_has}"
        )


def _bytes(config: Mapping[str, str | None]) -> int:
    return sum(
        len(f"{name}{value}".encode()) for name, value in config.items() if value is not None
    )


def _write(app: App, different: Mapping[str, str | None]) -> None:
    app.config_vars.filter(name__in=different).delete()
    ConfigVar.objects.bulk_create(
        ConfigVar(app=app, name=name, value=value)
        for name, value in different.items()
        if value is not None
    )


def _description(different: Mapping[str, str | None]) -> str:
    was_set = [name for name, value in different.items() if value is not None]
    was_unset = [name for name, value in different.items() if value is None]
    parts = [
        f"{verb} {_enumerate(names)}"
        for verb, names in (("Set", was_set), ("Remove", was_unset))
        if names
    ]
    return f"{' and '.join(parts)} config vars"


def _enumerate(names: Sequence[str]) -> str:
    more = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")


def attachments_under_way(app: App) -> list[Attachment]:
    """The attachments whose config vars are still to come."""
    coming = app.attachments.filter(state=AttachmentState.ATTACHING)
    return list(coming.select_related("addon__service"))


def var_names(attachment: Attachment) -> list[str]:
    """Every config var that this attachment may have."""
    service = attachment.addon.service
    return [
        config_var_name(attachment.name, service.config_vars_prefix, name)
        for name in service.config_vars
    ]


def differs(attachment: Attachment, config: Mapping[str, str]) -> bool:
    """Whether the attachment's app has other values than those of `config` for it."""
    values = _values(attachment, config)
    written = attachment.app.config_vars.filter(name__in=values)
    return {var.name: var.value for var in written} != values


def _values(attachment: Attachment, config: Mapping[str, str]) -> dict[str, str]:
    prefix = attachment.addon.service.config_vars_prefix
    return {config_var_name(attachment.name, prefix, name): value for name, value in config.items()}


def write_attached(attachment: Attachment, config: Mapping[str, str]) -> None:
    """Give the attachment's app the vars of `config`, under the attachment's name.

    Whatever had those names is replaced: the user confirmed it. The caller holds the app's lock.
    """
    coming = [
        ConfigVar(app=attachment.app, name=name, value=value, attachment=attachment)
        for name, value in _values(attachment, config).items()
    ]
    insert_or_update(coming, unique=("app", "name"), changed=("value", "attachment"))


def remove_attached(attachment: Attachment, names: Sequence[str]) -> None:
    """Unset vars of an attachment, by the manifest's names. The caller holds the app's lock."""
    prefix = attachment.addon.service.config_vars_prefix
    gone = [config_var_name(attachment.name, prefix, name) for name in names]
    attachment.config_vars.filter(name__in=gone).delete()
