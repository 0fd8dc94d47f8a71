"""The only writer of Addon.state and Attachment.state: by compare-and-set, one row or none."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from addon import leases
from addon.lifecycle import Event, State, next_state
from addon.platform.models import Addon, Attachment, AttachmentState
from addon.platform.retries import wait_after
from addon.statements import update


class ConcurrentChange(Exception):
    """The row is not in the state any more that the caller saw."""


def move(addon: Addon, event: Event, now: datetime, **changes: object) -> None:
    """Apply `event` to `addon`, in the database and in memory, along with other `changes`.

    Raises InvalidTransition, and ConcurrentChange when somebody else changed the state first.
    """
    seen = State(addon.state)
    changes |= {"state": next_state(seen, event), "updated_at": now}
    if update(Addon, {"id": addon.id, "state": seen}, changes) != 1:
        raise ConcurrentChange(f"The add-on {addon.name} is being changed by another request")
    for name, value in changes.items():
        setattr(addon, name, value)


def move_attachment(
    attachment: Attachment, to: AttachmentState, now: datetime, next_attempt_at: datetime | None
) -> None:
    """Raises ConcurrentChange when somebody else changed the state first."""
    changes = {"state": to, "updated_at": now, "next_attempt_at": next_attempt_at, "attempts": 0}
    if update(Attachment, {"id": attachment.id, "state": attachment.state}, changes) != 1:
        raise ConcurrentChange(
            f"The attachment {attachment.name} is being changed by another request"
        )
    for name, value in changes.items():
        setattr(attachment, name, value)


def claim(row: Addon | Attachment, now: datetime) -> bool:
    """Take the overdue `row` for one attempt; False when somebody else has it.

    The claim is a lease of at least 10 s; when it ends, the row is overdue again.
    """
    attempts = row.attempts + 1
    next_attempt_at = now + wait_after(attempts)
    # Each claim moves next_attempt_at, so of two claimants that read the same row one finds none.
    seen = type(row)._default_manager.filter(
        pk=row.pk, state=row.state, next_attempt_at=row.next_attempt_at
    )
    if seen.update(attempts=attempts, next_attempt_at=next_attempt_at) != 1:
        return False
    row.attempts = attempts
    row.next_attempt_at = next_attempt_at
    return True


@contextmanager
def held(row: Addon | Attachment) -> Iterator[None]:
    """Keep the lease of `row`, which is ours, for as long as a provider takes."""

    def renew(longer_by: timedelta) -> bool:
        if row.next_attempt_at is None:
            return False
        next_attempt_at = row.next_attempt_at + longer_by
        ours = type(row)._default_manager.filter(
            pk=row.pk, state=row.state, next_attempt_at=row.next_attempt_at
        )
        if ours.update(next_attempt_at=next_attempt_at) != 1:
            return False
        row.next_attempt_at = next_attempt_at
        return True

    with leases.kept(renew):
        yield
