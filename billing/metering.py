"""Metering: every answered request becomes one row of the ledger before its answer leaves."""

import uuid
from dataclasses import asdict, dataclass
from datetime import datetime

from django.db import IntegrityError, transaction

from billing.models import UsageEvent


class UsageConflict(Exception):
    """The ledger has a row under this id that says something else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What one answered request used. `id` is a uuid7 drawn before execution."""

    id: uuid.UUID
    request_id: str
    resource_id: uuid.UUID
    attachment_id: uuid.UUID
    credential_id: uuid.UUID
    attachment_name: str
    app_name: str
    plan_name: str
    model_id: str
    inputs: int
    tokens: int
    requested_at: datetime


def record_usage(usage: Usage) -> None:
    """Insert the usage event; durable when this returns. Recording it again changes nothing.

    Raises UsageConflict where the id is known with other content; database errors pass through.
    """
    content = asdict(usage)
    try:
        with transaction.atomic():
            UsageEvent(**content).save(force_insert=True)
    except IntegrityError:
        stored = UsageEvent.objects.filter(id=usage.id).values(*content).first()
        if stored is None:
            raise
        if stored != content:
            raise UsageConflict(f"usage event {usage.id} exists with other content") from None
