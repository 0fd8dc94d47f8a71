"""What a provider does to an add-on by calling back: its config, and that it is made or gone.

Every call may come again, also late: what it asks for and is so already is no error, and nothing
comes back from a destroyed add-on. Each function is one transaction.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from django.db import transaction

from addon.config_names import config_var_name
from addon.json_api import InvalidField
from addon.lifecycle import State
from addon.platform import plan_changes, provisioning
from addon.platform.addons import config_of, keep_config
from addon.platform.attachments import AttachmentNotFound
from addon.platform.config_vars import remove_attached, write_attached
from addon.platform.heroku_apps import AppNotFound, lock_app
from addon.platform.models import Addon, App, Attachment, AttachmentState, ConfigVar
from addon.platform.partner_tokens import AddonGone, Partner
from addon.platform.provider_client import CONFIG_VALUE_MAX_CHARACTERS, is_config_value
from addon.platform.releases import create_release
from addon.platform.transitions import ConcurrentChange

Config = Mapping[str, str | None]


class ConfigVarTaken(Exception):
    """An app has a config var of this name that is not the attachment's."""


def update_config(partner: Partner, changes: Config, now: datetime) -> dict[str, str]:
    """Set what has a value, unset what has None, for every attachment; all of it afterwards.

    While the add-on is provisioning nothing is released: its first attachment gets it in the end.
    Raises AddonGone, InvalidField, ConfigVarTaken.
    """
    with transaction.atomic():
        addon = _lock(partner)
        _validate(addon, changes)
        if addon.state == State.PROVISIONING:
            return keep_config(addon, changes)
        if not addon.service.attachment_credentials:
            keep_config(addon, changes)
        _write(addon, addon.attachments.filter(state=AttachmentState.ATTACHED), changes, now)
        return config_of(addon)


def update_attachment_config(
    partner: Partner, attachment_id: UUID, changes: Config, now: datetime
) -> dict[str, str]:
    """Likewise of one attachment, for a service with credentials per attachment.

    Raises AddonGone, AttachmentNotFound, InvalidField, ConfigVarTaken, ConcurrentChange.
    """
    with transaction.atomic():
        addon = _lock(partner)
        found = addon.attachments.exclude(state=AttachmentState.DETACHING)
        attachment = found.filter(id=attachment_id).first()
        if attachment is None:
            raise AttachmentNotFound
        if not addon.service.attachment_credentials:
            raise InvalidField(
                f"config of an attachment can only be set where api.annex.attachment_credentials "
                f"of the manifest is true; {addon.service.name} has one config for all"
            )
        _validate(addon, changes)
        if addon.state == State.PROVISIONING:
            return keep_config(addon, changes)
        if attachment.state == AttachmentState.ATTACHING:
            raise ConcurrentChange(f"{attachment.name} is just being attached")
        _write(addon, [attachment], changes, now)
        return _config_of(attachment)


def mark_provisioned(partner: Partner, now: datetime) -> Addon:
    """The provider has made the add-on, or has changed its plan to the one that it was asked for.

    Raises AddonGone, ConcurrentChange.
    """
    with transaction.atomic():
        addon = _lock(partner)
        if addon.state == State.PROVISIONING:
            provisioning.confirm_provisioned(addon, now)
        elif addon.pending_plan is not None:
            if addon.deadline_at is None:  # it has not said yet that it accepts the change
                raise ConcurrentChange(f"The plan of {addon.name} is just being changed")
            plan_changes.confirm_changed(addon, addon.pending_plan, now)
        return addon


def mark_deprovisioned(partner: Partner, now: datetime) -> Addon:
    """The provider has ended the add-on, or cannot make it. Raises AddonGone."""
    with transaction.atomic():
        addon = _lock(partner, is_end=True)
        provisioning.confirm_removed(addon, now)
        return addon


def _lock(partner: Partner, *, is_end: bool = False) -> Addon:
    locked = Addon.objects.select_for_update(of=("self",))
    related = locked.select_related("app__owner__team", "service", "plan", "pending_plan")
    addon = related.get(id=partner.addon.id)
    is_gone = addon.state == State.DEPROVISIONED
    if is_gone or (addon.state == State.DEPROVISIONING and not is_end):
        raise AddonGone(addon)
    return addon


def _validate(addon: Addon, changes: Config) -> None:
    declared = addon.service.config_vars
    for name, value in changes.items():
        if name not in declared:
            raise InvalidField(
                f"config: {name[:256]!r} is not in the manifest of {addon.service.name}, which has "
                f"{', '.join(declared)}"
            )
        if value is not None and not is_config_value(value):
            raise InvalidField(
                f"config: the value of {name} must be text of at most "
                f"{CONFIG_VALUE_MAX_CHARACTERS} characters, without NUL"
            )


def _write(addon: Addon, attachments: Iterable[Attachment], changes: Config, now: datetime) -> None:
    """One release on each app that this changes."""
    rows = list(attachments)
    for app_id in sorted({row.app_id for row in rows}):
        try:
            app = lock_app(app_id)
        except AppNotFound:
            continue  # destroyed meanwhile, and its attachments with it
        here = [_with(row, addon, app) for row in rows if row.app_id == app_id]
        outdated = sorted(row.name for row in here if _update(row, changes))
        if outdated:
            description = f"Update {', '.join(outdated)} by {addon.service.name}"
            create_release(app, addon.service, description, now)


def _with(attachment: Attachment, addon: Addon, app: App) -> Attachment:
    attachment.addon, attachment.app = addon, app
    return attachment


def _update(attachment: Attachment, changes: Config) -> bool:
    """Whether anything was another before."""
    before = _config_of(attachment)
    different = {name: value for name, value in changes.items() if before.get(name) != value}
    values = {name: value for name, value in different.items() if value is not None}
    _refuse_taken(attachment, values)
    write_attached(attachment, values)
    remove_attached(attachment, [name for name in different if name not in values])
    return bool(different)


def _var_name(attachment: Attachment, name: str) -> str:
    return config_var_name(attachment.name, attachment.addon.service.config_vars_prefix, name)


def _config_of(attachment: Attachment) -> dict[str, str]:
    """By the names of the manifest."""
    values = {var.name: var.value for var in attachment.config_vars.all()}
    names = {name: _var_name(attachment, name) for name in attachment.addon.service.config_vars}
    return {name: values[var] for name, var in names.items() if var in values}


def _refuse_taken(attachment: Attachment, values: Mapping[str, str]) -> None:
    names = [_var_name(attachment, name) for name in values]
    others = ConfigVar.objects.filter(app=attachment.app, name__in=names)
    taken = others.exclude(attachment=attachment).first() if names else None
    if taken is not None:
        raise ConfigVarTaken(
            f"config: {attachment.app.name} has a config var {taken.name} of its own, which is "
            f"not overwritten"
        )
