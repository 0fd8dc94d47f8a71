"""The provider's tables: resources, their attachments, and the credentials of those."""

import uuid

from django.db import models

from billing.encryption import EncryptedTextField


class Resource(models.Model):
    """What a platform provisioned here. Its id is the platform's id of the add-on.

    A deprovisioned resource stays as a tombstone: its id is never provisioned again.
    """

    id = models.UUIDField(primary_key=True)
    name = models.CharField(max_length=256, blank=True, help_text="renamable, so never a key")
    plan_slug = models.CharField(max_length=100)
    region = models.CharField(max_length=100, help_text="us or eu")
    options = models.JSONField(default=dict, blank=True)
    callback_url = models.CharField(max_length=500, blank=True)
    log_input_url = EncryptedTextField(blank=True)
    log_drain_token = EncryptedTextField(blank=True)
    request_digest = models.CharField(max_length=64, help_text="what a repeated request must match")
    created_at = models.DateTimeField()
    deprovisioned_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name or str(self.id)


class Attachment(models.Model):
    """One use of a resource by one app, with credentials, limits and metering of its own."""

    id = models.UUIDField(primary_key=True)
    resource = models.ForeignKey(Resource, models.PROTECT, related_name="attachments")
    name = models.CharField(max_length=256)
    app_name = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField()
    detached_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.app_name}::{self.name}" if self.app_name else self.name


class Credential(models.Model):
    """A key of an attachment. An attachment may have several that are live, while keys rotate."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    attachment = models.ForeignKey(Attachment, models.PROTECT, related_name="credentials")
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the key, in hex")
    key = EncryptedTextField()
    hint = models.CharField(max_length=16, help_text="how the key starts")
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.hint}…"
