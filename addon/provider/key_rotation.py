"""Rotation: an attachment gets another key, its app the config var, and the old key an end.

All of it is one transaction, the order to tell the platform included: a crash leaves an attachment
either as it was or with a key on its way to the app. Both keys work until the old one ends, which
waits for a platform that could not be told. Keys that end already, from a rotation before, end no
later for this one. Without an overlap every old key ends at once, wherever the new one is by then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from addon.json_api import iso
from addon.provider import callbacks, credentials, log_lines
from addon.provider.models import Attachment, Resource
from addon.provider.provisioning import (
    AttachmentGone,
    AttachmentNotFound,
    ResourceGone,
    ResourceNotFound,
    ResourceNotReady,
    lock_ready,
)

OVERLAP_MAX = timedelta(days=7)
LIVE_KEYS_MAX = 10


class SharedKey(Exception):
    """The attachment has no key of its own."""


class TooManyKeys(Exception):
    """The attachment was rotated so often that too many of its old keys still work."""


class PlatformNotReachable(Exception):
    """The platform gave no right to change its config vars: apps would keep a key that ends."""


REFUSALS = (
    ResourceNotFound,
    ResourceGone,
    ResourceNotReady,
    AttachmentNotFound,
    AttachmentGone,
    SharedKey,
    TooManyKeys,
    PlatformNotReachable,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotated:
    """`hint` is how the new key starts; the old ones end at `expires_at` at the latest."""

    attachment_id: UUID
    name: str
    hint: str
    expires_at: datetime

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.hint}… is on its way; the old keys end at {iso(self.expires_at)}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class NotRotated:
    reason: str


def rotate_attachment(
    resource_id: UUID, attachment_id: UUID, overlap: timedelta, now: datetime
) -> Rotated:
    """Raises ResourceNotFound, ResourceGone, ResourceNotReady, AttachmentNotFound, AttachmentGone,
    SharedKey, TooManyKeys, PlatformNotReachable."""
    with transaction.atomic():
        resource = lock_ready(resource_id)
        attachment = resource.attachments.filter(id=attachment_id).first()
        if attachment is None:
            raise AttachmentNotFound(f"There is no attachment {attachment_id} of this resource")
        if attachment.detached_at is not None:
            raise AttachmentGone(f"The attachment {attachment_id} was detached")
        if attachment.shares_key:
            raise SharedKey(f"The attachment {attachment.name} shares the key of its resource")
        return _rotate(attachment, overlap, now)


def rotate_resource(resource_id: UUID, overlap: timedelta, now: datetime) -> list[Rotated]:
    """Every attachment of the resource, or none. Raises ResourceNotFound, ResourceGone,
    ResourceNotReady, TooManyKeys, PlatformNotReachable."""
    with transaction.atomic():
        resource = lock_ready(resource_id)
        with_keys = resource.attachments.filter(detached_at=None, shares_key=False)
        return [_rotate(row, overlap, now) for row in with_keys.order_by("created_at", "id")]


def rotate_all(overlap: timedelta, now: datetime) -> Iterator[Rotated | NotRotated]:
    """Resource by resource, each as rotate_resource; one that refuses does not stop the others."""
    live = Resource.objects.filter(deprovisioned_at=None).order_by("created_at", "id")
    for resource_id in list(live.values_list("id", flat=True)):
        try:
            yield from rotate_resource(resource_id, overlap, now)
        except ResourceGone:
            continue  # meanwhile
        except REFUSALS as error:
            yield NotRotated(reason=str(error))


def resource_of(attachment_id: UUID) -> UUID:
    """Raises AttachmentNotFound."""
    attachment = Attachment.objects.filter(id=attachment_id).first()
    if attachment is None:
        raise AttachmentNotFound(f"There is no attachment {attachment_id}")
    return attachment.resource_id


def _rotate(attachment: Attachment, overlap: timedelta, now: datetime) -> Rotated:
    expires_at = now + overlap
    if overlap:
        credentials.retire(attachment, expires_at, now)
    else:
        credentials.revoke(attachment, now)
    if attachment.credentials.live(now).count() >= LIVE_KEYS_MAX:
        raise TooManyKeys(
            f"{attachment} has {LIVE_KEYS_MAX} keys that still work; wait for one to end, or "
            "rotate without an overlap"
        )
    credential = credentials.issue(attachment, now)
    if not callbacks.queue_config(attachment, now):
        raise PlatformNotReachable(
            f"The platform of {attachment} has given no right to change its config vars: the app "
            "would never get another key"
        )
    log_lines.write_key_rotation(attachment, expires_at, now)
    return Rotated(
        attachment_id=attachment.id,
        name=str(attachment),
        hint=credential.hint,
        expires_at=expires_at,
    )
