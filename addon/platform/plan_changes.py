"""Changing an add-on's plan, so that platform, provider and billing agree on it.

The provider is asked outside a transaction, under a lease: `next_attempt_at` of an add-on that is
`provisioned` says that its provider may have another plan than the platform. Whatever cuts a change
short leaves that mark, and the reconciler tells the provider the platform's plan until it confirms.
"""

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import assert_never
from uuid import UUID

from django.db import transaction

from addon.lifecycle import State
from addon.platform import config_vars, provider_client
from addon.platform.addons import AddonNotFound, AddonNotReady, resource_config
from addon.platform.changes import Actor, Change, Kind, announce
from addon.platform.heroku_apps import AppNotFound, lock_app
from addon.platform.models import Account, Addon, AttachmentState
from addon.platform.notifications import notify
from addon.platform.provider_client import Accepted, Done, Gone, Refused, Reply, Uncertain
from addon.platform.releases import create_release
from addon.platform.retries import ASYNC_WINDOW, wait_after
from addon.platform.transitions import ConcurrentChange, held
from billing.models import Plan
from billing.subscriptions import change_plan as change_subscription

logger = logging.getLogger(__name__)


class PlanChangeRefused(Exception):
    """The provider's message is for the user. The plan is what it was."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.status = refused.status


class PlanChangeFailed(Exception):
    """The provider gave no clear answer. The plan is what it was; the change may be repeated."""


def change_plan(addon: Addon, plan: Plan, account: Account, now: datetime) -> Addon:
    """[transaction] lease; provider call; [transaction] plan, subscription, vars and releases.

    The plan that it has already changes nothing. Raises AddonNotFound, AddonNotReady,
    ConcurrentChange, PlanChangeRefused, PlanChangeFailed, AppNotFound.
    """
    if plan == addon.plan and addon.next_attempt_at is None:
        return addon
    leased = _lease(addon.id, plan, now)
    with held(leased):
        reply = provider_client.change_plan(leased, plan)
    match reply:
        case Done():
            _finish(leased, plan, reply, account, now)
            return leased
        case Refused():
            _keep_plan(leased, now, reply)
            raise PlanChangeRefused(reply)
        case Accepted():
            _wait_for_provider(leased, reply, now)
            return leased
        case Gone() | Uncertain():
            _keep_plan(leased, now, reply)
            raise PlanChangeFailed(
                f"The provider of {addon.name} could not be reached or did not answer as "
                f"expected. The plan is still {leased.plan.name}; please try again"
            )
        case _:
            assert_never(reply)


def confirm_plan(addon: Addon, account: Account, now: datetime) -> None:
    """Tell the provider the plan that `addon` has, after a change of unclear outcome; repeatable.

    Raises what the lease does: AddonNotFound, AddonNotReady, ConcurrentChange.
    """
    if addon.pending_plan is not None:
        _give_up_waiting(addon, now)
    leased = _lease(addon.id, addon.plan, now)
    with held(leased):
        reply = provider_client.change_plan(leased, leased.plan)
    match reply:
        case Done():
            _finish(leased, leased.plan, reply, account, now)
        case Accepted():
            _wait_for_provider(leased, reply, now)
        case Refused() | Gone() | Uncertain():
            _note(leased, reply)
        case _:
            assert_never(reply)


def _wait_for_provider(addon: Addon, accepted: Accepted, now: datetime) -> None:
    """The provider will call back, within 12 hours; until then nobody changes the plan. It may have
    done so before its answer was read."""
    later = now + ASYNC_WINDOW
    leased = Addon.objects.filter(id=addon.id, next_attempt_at=addon.next_attempt_at)
    message = accepted.message or addon.provision_message
    leased.filter(state=State.PROVISIONED, pending_plan=addon.pending_plan).update(
        attempts=1, next_attempt_at=later, deadline_at=later, provision_message=message
    )
    addon.refresh_from_db()


def _give_up_waiting(addon: Addon, now: datetime) -> None:
    """The provider did not change the plan in 12 hours: the owner is told, and the provider asked
    for the plan that the add-on has. Raises ConcurrentChange."""
    wanted = addon.pending_plan
    with transaction.atomic():
        waiting = Addon.objects.filter(id=addon.id, next_attempt_at=addon.next_attempt_at)
        changed = waiting.filter(pending_plan=wanted, deadline_at__lte=now)
        if changed.update(pending_plan=None, deadline_at=None) == 1 and wanted != addon.plan:
            notify(
                addon.app.owner, addon.app, f"The plan of {addon.name} was not changed",
                f"Its provider did not change it to {wanted} in time. It is still "
                f"{addon.plan.name}, which is what is paid for.", now,
            )  # fmt: skip


def confirm_changed(addon: Addon, plan: Plan, now: datetime) -> None:
    """The provider calls back that `addon` is on `plan`; within a transaction that has its lock."""
    _finish(addon, plan, Done(), addon.service, now)


def _lease(addon_id: UUID, plan: Plan, now: datetime) -> Addon:
    """The add-on, for one call about `plan`. Nobody changes its plan or attaches it until the lease
    ends."""
    with transaction.atomic():
        addon = _lock(addon_id)
        if addon.state != State.PROVISIONED:
            raise AddonNotReady(
                f"{addon.name} is {addon.state}; its plan can be changed once provisioned"
            )
        if addon.deadline_at is not None and addon.deadline_at > now:
            raise AddonNotReady(
                f"The provider of {addon.name} is still changing its plan to {addon.pending_plan}; "
                "please try again once it has"
            )
        is_leased = addon.next_attempt_at is not None and addon.next_attempt_at > now
        # An attachment under way would bring the config of the plan that is being left.
        is_attaching = addon.attachments.filter(state=AttachmentState.ATTACHING).exists()
        if is_leased or is_attaching or addon.updated_at > now:
            raise _changed_by_another(addon)
        addon.attempts = 1 if addon.next_attempt_at is None else addon.attempts + 1
        # Never longer: nobody can change or attach the add-on before it is over.
        addon.next_attempt_at = now + wait_after(1)
        addon.pending_plan, addon.deadline_at = plan, None  # of a change before, which was late
        addon.save(update_fields=["attempts", "next_attempt_at", "pending_plan", "deadline_at"])
        return addon


def _changed_by_another(addon: Addon) -> ConcurrentChange:
    return ConcurrentChange(f"The add-on {addon.name} is being changed by another request")


def _lock(addon_id: UUID) -> Addon:
    locked = Addon.objects.select_for_update(of=("self",)).select_related("app", "service", "plan")
    addon = locked.filter(id=addon_id).exclude(state=State.DEPROVISIONED).first()
    if addon is None:
        raise AddonNotFound
    return addon


def _finish(addon: Addon, plan: Plan, done: Done, account: Actor, now: datetime) -> None:
    before = addon.plan
    is_other_plan = plan != before
    with transaction.atomic():
        _settle(
            addon,
            plan=plan,
            provision_message=done.message or addon.provision_message,
            resource_config=_shared_config(addon, done.config),
            pending_plan=None,
            attempts=0,
            next_attempt_at=None,
            deadline_at=None,
            last_error="",
            updated_at=now,
        )
        if is_other_plan:
            change_subscription(addon.id, plan, now)
            announce(
                Change(
                    kind=Kind.ADDON, action="update", app=addon.app, row=addon, account=account,
                    at=now, previous={"plan": {"id": str(before.id), "name": before.name}},
                )
            )  # fmt: skip
        _write_config(addon, done.config, account, now, is_other_plan=is_other_plan)


def _shared_config(addon: Addon, changes: Mapping[str, str]) -> str:
    """As it is kept. Its provider may have set some of it since `addon` was read."""
    if addon.service.attachment_credentials:
        return ""
    current = Addon.objects.select_for_update().get(id=addon.id)
    return json.dumps({**resource_config(current), **changes})


def _settle(addon: Addon, **changes: object) -> None:
    """Raises ConcurrentChange when the lease of `addon` is not ours any more."""
    leased = Addon.objects.filter(
        id=addon.id, state=State.PROVISIONED, next_attempt_at=addon.next_attempt_at
    )
    if leased.update(**changes) != 1:
        raise _changed_by_another(addon)
    for name, value in changes.items():
        setattr(addon, name, value)


def _write_config(
    addon: Addon, config: Mapping[str, str], account: Actor, now: datetime, *, is_other_plan: bool
) -> None:
    """Write what the provider said of the plan to every attachment; one release for each app that
    it changes, and for the owner's, whose releases name the plans."""
    attached = addon.attachments.filter(state=AttachmentState.ATTACHED)
    for app_id in sorted({addon.app_id, *attached.values_list("app_id", flat=True)}):
        try:
            app = lock_app(app_id)
        except AppNotFound:
            continue  # destroyed meanwhile, and its attachments with it
        here = attached.filter(app=app).select_related("app", "addon__service")
        outdated = [attachment for attachment in here if config_vars.differs(attachment, config)]
        for attachment in outdated:
            config_vars.write_attached(attachment, config)
        if outdated or (is_other_plan and app_id == addon.app_id):
            description = f"Change plan of {addon.name} to {addon.plan.name}"
            create_release(app, account, description, now)


def _keep_plan(addon: Addon, now: datetime, reply: Reply) -> None:
    """What the provider refused at the first attempt it has not done; of all else it must be told
    the plan again."""
    if isinstance(reply, Refused) and addon.attempts == 1:
        _settle(addon, attempts=0, next_attempt_at=None, pending_plan=None)
    else:
        _note(addon, reply)
        _settle(addon, next_attempt_at=now, pending_plan=None)


def _note(addon: Addon, reply: Reply) -> None:
    match reply:
        case Refused():
            reason = f"the provider answered {reply.status}"
        case Uncertain():
            reason = reply.reason
        case _:
            reason = f"the provider answered {type(reply).__name__.lower()}"
    reason = f"plan change: {reason}"
    logger.warning("%s: %s", addon.id, reason)
    Addon.objects.filter(id=addon.id).update(last_error=reason)
