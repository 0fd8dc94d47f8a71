"""The provider's tables: resources, their attachments, and the credentials of those; the grants by
which it may call platforms back, and what they are still to be told."""

import uuid
from datetime import datetime, timedelta
from typing import Self

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from billing.encryption import EncryptedTextField

# How long an old key works on after its platform was told of the new one, where that came late.
LATE_GRACE = timedelta(minutes=10)


class Work(models.TextChoices):
    """What was answered 202, so that the platform waits to be called back."""

    PROVISION = "provision"
    PLAN_CHANGE = "plan_change"
    DEPROVISION = "deprovision"


class Resource(models.Model):
    """What a platform provisioned here. Its id is the platform's id of the add-on.

    A deprovisioned resource stays as a tombstone: its id is never provisioned again.

    What goes on in the background is driven by deliveries.py: `next_attempt_at` is when something
    is to be done next, and until `leased_until` somebody is doing it.
    """

    id = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=256, blank=True, help_text="renamable, so never a key")
    app_name = models.CharField(
        max_length=64, blank=True, help_text="of the app that owns it, where a webhook told it"
    )
    app_id = models.UUIDField(null=True, blank=True, db_index=True, help_text="likewise")
    plan_slug = models.CharField(max_length=100)
    region = models.CharField(max_length=100, help_text="us or eu")
    options = models.JSONField(default=dict, blank=True)
    callback_url = models.CharField(max_length=500, blank=True)
    log_input_url = EncryptedTextField(blank=True)
    log_drain_token = EncryptedTextField(blank=True)
    request_digest = models.CharField(max_length=64, help_text="what a repeated request must match")
    told_at = models.DateTimeField(
        null=True, blank=True, help_text="of what the platform's last webhook about it said"
    )
    created_at = models.DateTimeField()
    provisioned_at = models.DateTimeField(
        null=True, blank=True, help_text="since when it has keys; empty while it is being made"
    )
    deprovisioned_at = models.DateTimeField(null=True, blank=True)
    is_async = models.BooleanField(
        default=False, help_text="its provision was answered 202, and so is a repeat"
    )
    pending = models.CharField(max_length=20, choices=Work.choices, blank=True)
    pending_plan_slug = models.CharField(max_length=100, blank=True)
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_index=True)
    leased_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0, help_text="that failed since one succeeded")
    last_error = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.name or str(self.id)


class Attachment(models.Model):
    """One use of a resource by one app, with credentials, limits and metering of its own.

    Of a platform that has one config for the resource, as Heroku, an attachment with the id of the
    resource has the key, and those that webhooks tell of share it.
    """

    id = models.UUIDField(primary_key=True)
    resource = models.ForeignKey(Resource, models.PROTECT, related_name="attachments")
    name = models.CharField(max_length=256)
    app_name = models.CharField(max_length=64, blank=True)
    app_id = models.UUIDField(
        null=True, blank=True, db_index=True, help_text="where a webhook told it"
    )
    shares_key = models.BooleanField(default=False, help_text="it has no key of its own")
    told_at = models.DateTimeField(
        null=True, blank=True, help_text="of what the platform's last webhook about it said"
    )
    created_at = models.DateTimeField()
    detached_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.app_name}::{self.name}" if self.app_name else self.name


class CredentialQuerySet(models.QuerySet["Credential"]):
    def live(self, at: datetime | Now) -> Self:
        """Those that are not revoked, and not past their end either: one that was replaced does not
        end before the platform was told, and, if that came late, LATE_GRACE after it. What is to be
        told only since its end wakes no key."""
        was_late = Q(ended_at__gt=OuterRef("expires_at")) & Q(ended_at__gt=at - LATE_GRACE)
        untold = Callback.objects.filter(
            Q(ended_at=None) | was_late,
            Q(attachment=None) | Q(attachment=OuterRef("attachment")),
            resource=OuterRef("attachment__resource"),
            kind=CallbackKind.CONFIG,
            created_at__lt=OuterRef("expires_at"),
        )
        has_no_end_yet = Q(expires_at=None) | Q(expires_at__gt=at) | Q(Exists(untold))
        return self.filter(has_no_end_yet, revoked_at=None)


class Credential(models.Model):
    """A key of an attachment. While keys rotate several are live: the one without an end is that
    of the config vars."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    attachment = models.ForeignKey(Attachment, models.PROTECT, related_name="credentials")
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the key, in hex")
    key = EncryptedTextField()
    hint = models.CharField(max_length=16, help_text="how the key starts")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True, help_text="set when it is replaced")
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = CredentialQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.hint}…"


class Grant(models.Model):
    """The right to call the platform about one resource: a code that is good for five minutes, then
    the tokens that it was exchanged for."""

    resource = models.OneToOneField(
        Resource, models.CASCADE, primary_key=True, related_name="grant"
    )
    code = EncryptedTextField(blank=True, help_text="not exchanged yet")
    code_expires_at = models.DateTimeField(null=True, blank=True)
    access_token = EncryptedTextField(blank=True)
    access_expires_at = models.DateTimeField(null=True, blank=True)
    refresh_token = EncryptedTextField(blank=True)
    leased_until = models.DateTimeField(
        null=True, blank=True, help_text="until then somebody exchanges or refreshes"
    )
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"grant of {self.resource_id}"


class CallbackKind(models.TextChoices):
    CONFIG = "config"
    PROVISION = "provision"
    DEPROVISION = "deprovision"
    WEBHOOKS = "webhooks"


class Callback(models.Model):
    """What a platform is to be told, written in the transaction of what it tells; those of a
    resource are delivered in their order, that of its webhooks last. It says what it is about: its
    content is read when it is sent."""

    id = models.BigAutoField(primary_key=True)
    resource = models.ForeignKey(Resource, models.CASCADE, related_name="callbacks")
    kind = models.CharField(max_length=20, choices=CallbackKind.choices)
    attachment = models.ForeignKey(
        Attachment, models.CASCADE, null=True, blank=True, related_name="callbacks",
        help_text="whose config is to be sent; empty: what all have alike",
    )  # fmt: skip
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(
        max_length=20,
        blank=True,
        choices=[(word, word) for word in ("delivered", "gone", "expired", "overtaken")],
    )

    class Meta:
        indexes = [
            models.Index(
                fields=["resource", "id"],
                condition=models.Q(ended_at=None),
                name="open_callback_of_resource",
            ),
            models.Index(fields=["ended_at"], name="ended_callback"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.resource_id}"
