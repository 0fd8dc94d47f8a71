"""Callbacks: what a platform is to be told of a resource, queued with what it tells, sent later.

`queue_config` and the others are called within the transaction that changes something; what is
rolled back is never told. deliveries.py sends them: in the order of the resource, retried for 24
hours, stopped by a platform that has the add-on no more.
"""

from datetime import datetime, timedelta
from uuid import UUID

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from addon.provider.grants import may_call
from addon.provider.models import Attachment, Callback, CallbackKind, Resource

RETRIED_FOR = timedelta(hours=24)
# For the admin, who looks what became of them.
KEPT = timedelta(days=30)
PURGED_A_RUN = 1_000
# The platform may have to read an answer of ours before it can be called back.
WAKE_AFTER_S = 1.0
WAKE_EXPIRES_S = 5.0  # the reconciler's next round comes by then


def queue_config(attachment: Attachment, now: datetime) -> bool:
    """Have the platform's config vars of `attachment` say what its config is when it is sent.

    Within the transaction that changes it. False where the platform cannot be called back. With
    credentials per attachment only its vars are written; else it is the resource's only one.
    """
    resource = _lock(attachment.resource_id)
    is_only_one = attachment.id == resource.id  # the platform knows of no attachments
    return _queue(resource, CallbackKind.CONFIG, now, None if is_only_one else attachment)


def queue_shared_config(resource: Resource, now: datetime) -> bool:
    """Likewise what all attachments of `resource` have alike."""
    return _queue(_lock(resource.id), CallbackKind.CONFIG, now)


def queue_provisioned(resource: Resource, now: datetime) -> bool:
    return _queue(_lock(resource.id), CallbackKind.PROVISION, now)


def queue_deprovisioned(resource: Resource, now: datetime) -> bool:
    """What was still to be told does not matter any more."""
    locked = _lock(resource.id)
    end_all(locked, "overtaken", now)
    return _queue(locked, CallbackKind.DEPROVISION, now)


def queue_webhooks(resource: Resource, now: datetime) -> None:
    """Subscribe to the webhooks of a resource, unless that was queued before, or none are taken.
    Whoever calls this drives the resource."""
    queued = resource.callbacks.filter(kind=CallbackKind.WEBHOOKS)
    if settings.PROVIDER_WEBHOOK_SECRET and not queued.exists():
        Callback.objects.create(resource=resource, kind=CallbackKind.WEBHOOKS, created_at=now)


def _lock(resource_id: UUID) -> Resource:
    """So that callbacks get their ids in the order of what they tell."""
    return Resource.objects.select_for_update().get(id=resource_id)


def _queue(
    resource: Resource, kind: CallbackKind, now: datetime, attachment: Attachment | None = None
) -> bool:
    if not may_call(resource):
        return False
    Callback.objects.create(resource=resource, kind=kind, attachment=attachment, created_at=now)
    make_due(resource, now)
    return True


def make_due(resource: Resource, now: datetime) -> None:
    """Have deliveries.py look at `resource` once the transaction holds. Should the task get lost,
    the reconciler comes to it."""
    Resource.objects.filter(id=resource.id).update(next_attempt_at=now, attempts=0)
    wake()


def wake() -> None:
    """Once the transaction holds, have the reconciler look at what is due before its time."""

    def send() -> None:
        current_app.send_task(
            "addon.provider.reconcile",
            countdown=WAKE_AFTER_S,
            expires=WAKE_EXPIRES_S,
            retry=False,
        )

    transaction.on_commit(send, robust=True)


def open_callbacks(resource: Resource) -> QuerySet[Callback]:
    """Those that are still to be delivered, the next one first."""
    return resource.callbacks.filter(ended_at=None).order_by("id")


def find_next(resource: Resource) -> Callback | None:
    """The next to be delivered. Webhooks keep nothing else waiting, so they come last."""
    waiting = open_callbacks(resource).select_related("attachment")
    return waiting.exclude(kind=CallbackKind.WEBHOOKS).first() or waiting.first()


def end(callback: Callback, outcome: str, now: datetime) -> None:
    Callback.objects.filter(id=callback.id, ended_at=None).update(ended_at=now, outcome=outcome)


def end_all(resource: Resource, outcome: str, now: datetime) -> None:
    open_callbacks(resource).update(ended_at=now, outcome=outcome)


def purge(now: datetime) -> None:
    """Delete those that ended long ago."""
    ended = Callback.objects.filter(ended_at__lt=now - KEPT).order_by("ended_at")
    Callback.objects.filter(id__in=ended.values("id")[:PURGED_A_RUN]).delete()
