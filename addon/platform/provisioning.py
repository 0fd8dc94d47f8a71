"""The life of an add-on: ordered, provisioned, destroyed, each in steps that resume.

No transaction is open while a provider is called. Every step leaves a row that says what comes next
and when, so the reconciler finishes what a dead process left behind.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from addon.json_api import find_uuid
from addon.lifecycle import Event, InvalidTransition, State
from addon.platform import attachments, names, partner_tokens, provider_client
from addon.platform.addons import AddonNotFound, merged_config, resource_config
from addon.platform.aliases import Wish, reserve
from addon.platform.changes import Action, Actor, Change, Kind, announce
from addon.platform.heroku_apps import lock_app
from addon.platform.models import Account, Addon, AddonService, App, Attachment, AttachmentState
from addon.platform.notifications import notify
from addon.platform.provider_client import Accepted, Done, Gone, Refused, Uncertain
from addon.platform.regions import require_region
from addon.platform.retries import ASYNC_WINDOW, CALL_IS_OVER, PROVISION_WINDOW, wait_after
from addon.platform.teams import billing_email
from addon.platform.transitions import ConcurrentChange, held, move
from addon.statements import insert_unless_there
from billing.compiled_queries import CompiledQuery
from billing.models import Plan
from billing.subscriptions import end_subscription, rename_resource, subscribe

logger = logging.getLogger(__name__)

NAME_PATTERN = re.compile(r"[a-zA-Z][A-Za-z0-9_-]{1,255}")
GENERATED_NAME_TRIES = 10
WAITING_MESSAGE = (
    "Its provider gave no clear answer yet and is asked again in the background, for up to 24 "
    "hours. Should that fail, `heroku notifications` tells, and nothing is charged."
)


class InvalidAddonName(Exception):
    pass


class AddonNameTaken(Exception):
    pass


class AlreadyInstalled(Exception):
    """The service allows one add-on per app."""


class AttachedElsewhere(Exception):
    """Other apps would lose the add-on; repeat with force to destroy it all the same."""


class ProvisionRefused(Exception):
    """The provider's message is for the user. Nothing was left behind."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.status = refused.status


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """`id` is the same when a request is repeated: it was carried out once, then."""

    app: App
    account: Account
    service: AddonService
    plan: Plan
    name: str | None
    wish: Wish
    options: Mapping[str, str]
    id: UUID = field(default_factory=uuid4)


def provision(order: Order, now: datetime) -> Addon:
    """Order an add-on: [transaction] rows, provider call, [transaction] vars and release.

    An order that was carried out already changes nothing.

    The add-on is `provisioned`, or `provisioning` when the provider needs longer or gave no clear
    answer. Raises what aliases.reserve() raises, InvalidAddonName, AddonNameTaken,
    AlreadyInstalled, RegionNotOffered, AppNotFound, ProvisionRefused.
    """
    _validate_name(order.name)
    addon, attachment = _insert(order, now)
    if attachment is None:
        return addon
    try:
        drive_provisioning(addon, attachment, order.account, now)
    except ConcurrentChange:
        # Destroyed, or finished by the reconciler, while the provider was asked.
        addon.refresh_from_db()
    return addon


def _validate_name(name: str | None) -> None:
    # A name that looks like an id would be taken for one in a path.
    if name is not None and (not NAME_PATTERN.fullmatch(name) or find_uuid(name)):
        raise InvalidAddonName(
            "name must start with a letter and can only contain letters, digits, dashes and "
            "underscores; 2 to 256 characters, and not a UUID"
        )


def _insert(order: Order, now: datetime) -> tuple[Addon, Attachment | None]:
    """The add-on and its first attachment, leased for the first call to the provider; without the
    attachment when the same order came before."""
    with transaction.atomic():
        app = lock_app(order.app.id)
        addon = _insert_addon(order, app, now)
        if addon is None:
            return _get_made(order), None
        require_region(app.region, order.service.name, order.service.regions)
        if not order.service.supports_multiple_installations:
            _refuse_second(addon)
        _subscribe(addon, order, now)
        _announce(addon, "create", order.account, now)
        action = f"Adding {order.plan.name} to app {app.name}"
        return addon, reserve(app, addon, order.wish, action, now)


def _announce(
    addon: Addon, action: Action, account: Actor, now: datetime, **previous: object
) -> None:
    change = Change(
        kind=Kind.ADDON,
        action=action,
        app=addon.app,
        row=addon,
        account=account,
        at=now,
        previous=previous,
    )
    announce(change)


def _subscribe(addon: Addon, order: Order, now: datetime) -> None:
    owner = order.app.owner
    subscribe(
        resource_id=addon.id,
        customer_id=owner.id,
        email=billing_email(owner),
        name=owner.name,
        resource_name=addon.name,
        plan=order.plan,
        now=now,
    )


def _refuse_second(addon: Addon) -> None:
    others = addon.app.addons.filter(service=addon.service).exclude(id=addon.id)
    installed = others.exclude(state=State.DEPROVISIONED).first()
    if installed is not None:
        raise AlreadyInstalled(
            f"{addon.app.name} has the {addon.service.name} add-on {installed.name}; it can have "
            "only one"
        )


def _insert_addon(order: Order, app: App, now: datetime) -> Addon | None:
    """None when the same order came before, and its add-on is still there."""
    addon = Addon(
        id=order.id,
        name=order.name or names.addon_name(order.service.name),
        app=app,
        service=order.service,
        plan=order.plan,
        state=State.PROVISIONING,
        options=dict(order.options),
        attempts=1,
        next_attempt_at=now + wait_after(1),
        deadline_at=now + PROVISION_WINDOW,
        created_at=now,
        updated_at=now,
    )
    for _ in range(GENERATED_NAME_TRIES):
        if insert_unless_there(addon):
            return addon
        made = Addon.objects.filter(id=addon.id).first()
        if made is not None and made.state != State.DEPROVISIONED:
            return None
        if made is not None:
            addon.id = uuid4()  # a uuid that was refused stays refused at the provider
        elif order.name is not None:
            break
        else:
            addon.name = names.addon_name(order.service.name)
    raise AddonNameTaken(f"Name {addon.name} is already taken")


def _get_made(order: Order) -> Addon:
    return Addon.objects.select_related("app", "service", "plan").get(id=order.id)


def drive_provisioning(
    addon: Addon, attachment: Attachment, account: Account, now: datetime
) -> None:
    """Ask the provider once for an add-on that is `provisioning`, and do what follows; repeatable.

    Raises ProvisionRefused, and ConcurrentChange when the add-on was destroyed meanwhile.
    """
    grant = partner_tokens.issue_grant(addon, now)
    with held(addon):
        reply = provider_client.provision(addon, attachment, grant)
    match reply:
        case Done():
            finish(addon, attachment, reply, account, now)
        case Accepted():
            _wait_for_provider(addon, reply, now)
        case Refused() if reply.is_final or addon.attempts == 1:
            _give_up(addon, account, now, reply.message, reply.message)
            raise ProvisionRefused(reply)
        case Refused():
            _note(addon, f"the provider answered {reply.status}")  # it may pass
        case Gone():
            # Nobody else knows this uuid: the provider removed it after an earlier attempt.
            _give_up(addon, account, now, "the provider answered 410", "Its provider refused it")
        case Uncertain():
            _note(addon, reply.reason)
        case _:
            assert_never(reply)


def finish(addon: Addon, attachment: Attachment, done: Done, account: Actor, now: datetime) -> None:
    is_shared = not addon.service.attachment_credentials
    with transaction.atomic():
        # Its provider may have called back before its answer was read.
        (current,) = _config_for_update.all(addon.id)
        config = merged_config(current, done.config)
        move(
            addon,
            Event.PROVIDER_PROVISIONED,
            now,
            provider_id=done.provider_id,
            provision_message=done.message,
            resource_config=json.dumps(config) if is_shared else "",
            next_attempt_at=None,
            deadline_at=None,
            last_error="",
        )
        attachments.finish(attachment, config, account, now)
        _announce(addon, "update", account, now, state=State.PROVISIONING)


@CompiledQuery
def _config_for_update(addon_id: UUID) -> QuerySet[Addon]:
    return Addon.objects.select_for_update().filter(id=addon_id).only("resource_config")


def _wait_for_provider(addon: Addon, accepted: Accepted, now: datetime) -> None:
    """The provider will call back; it is not asked again before it had its 12 hours, of the day
    that a provision may take."""
    deadline_at = min(now + ASYNC_WINDOW, addon.created_at + PROVISION_WINDOW)
    changes = {
        "provider_id": accepted.provider_id,
        "provision_message": accepted.message,
        "next_attempt_at": deadline_at,
        "deadline_at": deadline_at,
        "last_error": "",
    }
    if Addon.objects.filter(id=addon.id, state=State.PROVISIONING).update(**changes) != 1:
        # It called back already, before its answer was read; or the add-on was destroyed.
        known = Addon.objects.filter(id=addon.id, provider_id="")
        known.update(provider_id=accepted.provider_id)
        addon.refresh_from_db()
        return
    for name, value in changes.items():
        setattr(addon, name, value)


def _give_up(addon: Addon, account: Account, now: datetime, reason: str, message: str) -> None:
    """Hide the add-on; remove it at the provider if an earlier attempt may have made something.

    `reason` is for the operator, `message` for the user.
    """
    was_refused_at_once = addon.attempts == 1
    with transaction.atomic():
        move(
            addon,
            Event.PROVIDER_REFUSED if was_refused_at_once else Event.ABANDONED,
            now,
            attempts=0,
            next_attempt_at=None if was_refused_at_once else now,
            deadline_at=None,
            failed_at=None if was_refused_at_once else now,  # who asked was told at once
            last_error=reason,
        )
        end_subscription(addon.id, addon.created_at)  # what was never provisioned costs nothing
        attachments.withdraw_all(addon, account, now)
        _announce(addon, "destroy", account, now)
        if was_refused_at_once:
            addon.attachments.all().delete()
        else:
            _notify_failed(addon, message, now)
    logger.warning("gave up on provisioning %s: %s", addon.id, reason)


def abandon(addon: Addon, account: Account, now: datetime) -> None:
    """End an add-on that is `provisioning` beyond its deadline. Raises ConcurrentChange."""
    with transaction.atomic():
        reason = f"not provisioned in time; {addon.last_error}".rstrip("; ")
        lease = now + wait_after(1)  # of the removal that follows at once
        move(
            addon,
            Event.ABANDONED,
            now,
            attempts=0,
            next_attempt_at=lease,
            deadline_at=None,
            failed_at=now,
            last_error=reason,
        )
        end_subscription(addon.id, addon.created_at)
        attachments.withdraw_all(addon, account, now)
        _announce(addon, "destroy", account, now)
        _notify_failed(addon, "Its provider did not provision it in time", now)


def _notify_failed(addon: Addon, why: str, now: datetime) -> None:
    title = f"{addon.name} was not created"
    body = f"{addon.plan.name} could not be added to {addon.app.name}: {why.rstrip('.')}."
    notify(addon.app.owner, addon.app, title, f"{body} Nothing is charged for it.", now)


def _note(addon: Addon, reason: str) -> None:
    logger.warning("provider call for %s: %s", addon.id, reason)
    addon.last_error = reason
    if addon.state == State.PROVISIONING:
        addon.provision_message = WAITING_MESSAGE
    Addon.objects.filter(id=addon.id, state=addon.state).update(
        last_error=reason, provision_message=addon.provision_message
    )


def destroy(addon: Addon, account: Account, now: datetime, *, force: bool) -> Addon:
    """[transaction] vars, releases, `deprovisioning`; then the provider, and it is `deprovisioned`.

    It stays `deprovisioning` while the provider cannot be reached. Destroying it again changes
    nothing. Raises AttachedElsewhere, unless `force`, and AddonNotFound.
    """
    with transaction.atomic():
        locked = _lock(addon)
        if locked.state == State.DEPROVISIONING:
            return locked
        if not force:
            _refuse_attached_elsewhere(locked)
        was_provisioned = locked.state == State.PROVISIONED
        # One that the provider makes in the background has no call under way.
        is_idle = was_provisioned or locked.next_attempt_at == locked.deadline_at
        move(
            locked,
            Event.DESTROY_REQUESTED,
            now,
            attempts=1 if is_idle else 0,
            next_attempt_at=now + (wait_after(1) if is_idle else CALL_IS_OVER),
            deadline_at=None,
            pending_plan=None,
        )
        end_subscription(locked.id, now if was_provisioned else locked.created_at)
        attachments.withdraw_all(locked, account, now)
        _announce(locked, "destroy", account, now)
    # One that was provisioning may have a call under way; a removal that overtook it would leave
    # the resource behind. The reconciler removes it when that call is surely over.
    if is_idle:
        drive_deprovisioning(locked, now)
    return locked


def _lock(addon: Addon) -> Addon:
    locked = Addon.objects.select_for_update(of=("self",)).select_related("app", "service", "plan")
    found = locked.filter(id=addon.id).exclude(state=State.DEPROVISIONED).first()
    if found is None:
        raise AddonNotFound
    return found


def rename(addon: Addon, name: str, account: Account, now: datetime) -> Addon:
    """Everything else stays. Raises InvalidAddonName, AddonNameTaken, AddonNotFound."""
    _validate_name(name)
    try:
        with transaction.atomic():
            locked = _lock(addon)
            if name == locked.name:
                return locked
            previous, locked.name, locked.updated_at = locked.name, name, now
            locked.save(update_fields=["name", "updated_at"])
            rename_resource(locked.id, name)
            _announce(locked, "update", account, now, name=previous)
    except IntegrityError:
        raise AddonNameTaken(f"Name {name} is already taken") from None
    return locked


def _refuse_attached_elsewhere(addon: Addon) -> None:
    elsewhere = addon.attachments.exclude(app_id=addon.app_id)
    used = elsewhere.exclude(state=AttachmentState.DETACHING).select_related("app")
    apps = sorted({attachment.app.name for attachment in used})
    if apps:
        raise AttachedElsewhere(
            f"{addon.name} is also attached to: {', '.join(apps)}. Detach it there first, or use "
            "--force to destroy it all the same"
        )


def drive_deprovisioning(addon: Addon, now: datetime) -> None:
    """Ask the provider once to remove an add-on that is `deprovisioning`; repeatable."""
    with held(addon):
        reply = provider_client.deprovision(addon)
    match reply:
        case Accepted():
            _wait_for_removal(addon, now)
        case Done() | Gone():
            _finish_removal(addon, now)
        case Uncertain():
            _note(addon, reply.reason)
        case _:
            assert_never(reply)


def _wait_for_removal(addon: Addon, now: datetime) -> None:
    """The provider will call back, within 12 hours; then it is asked once more, and whatever it
    answers but an error is the end."""
    if addon.deadline_at is not None and addon.deadline_at <= now:
        logger.warning("%s: its provider was to remove it in 12 hours, and said nothing", addon.id)
        _finish_removal(addon, now)
        return
    deadline_at = addon.deadline_at or now + ASYNC_WINDOW
    waiting = Addon.objects.filter(id=addon.id, state=State.DEPROVISIONING)
    waiting.update(deadline_at=deadline_at, next_attempt_at=deadline_at, last_error="")
    addon.refresh_from_db(fields=["state", "deadline_at", "next_attempt_at"])


def _finish_removal(addon: Addon, now: datetime) -> None:
    try:
        with transaction.atomic():
            move(addon, Event.PROVIDER_REMOVED, now, next_attempt_at=None, last_error="")
            addon.attachments.all().delete()
    except (ConcurrentChange, InvalidTransition):
        addon.refresh_from_db(fields=["state"])  # somebody else was told the same


def confirm_provisioned(addon: Addon, now: datetime) -> None:
    """The provider has made an add-on that is `provisioning`; within a transaction that has its
    lock. Its config is what the provider has set until now."""
    attachment = addon.attachments.select_related("app", "addon__service").get(
        state=AttachmentState.ATTACHING
    )
    done = Done(
        config=resource_config(addon),
        message=addon.provision_message,
        provider_id=addon.provider_id,
    )
    finish(addon, attachment, done, addon.service, now)


def confirm_removed(addon: Addon, now: datetime) -> None:
    """The provider has ended an add-on, or could not make it; within a transaction that has its
    lock. What was not destroyed by its owner is told to its owner."""
    before, provider = addon.state, addon.service
    was_made = before == State.PROVISIONED
    failed = {} if before == State.DEPROVISIONING or was_made else {"failed_at": now}
    move(
        addon,
        Event.PROVIDER_REMOVED,
        now,
        next_attempt_at=None,
        deadline_at=None,
        pending_plan=None,
        last_error="",
        **failed,
    )
    if before != State.DEPROVISIONING:
        end_subscription(addon.id, now if was_made else addon.created_at)
        attachments.withdraw_all(addon, provider, now)
        _announce(addon, "destroy", provider, now)
        if was_made:
            _notify_removed(addon, now)
        else:
            _notify_failed(addon, "Its provider could not provision it", now)
    addon.attachments.all().delete()


def _notify_removed(addon: Addon, now: datetime) -> None:
    body = f"The provider of {addon.plan.name} has ended {addon.name} of {addon.app.name}."
    notify(addon.app.owner, addon.app, f"{addon.name} was removed", body, now)
