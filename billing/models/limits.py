"""Limits that differ from those of the plan and the model."""

import uuid

from django.db import models


class LimitOverride(models.Model):
    """Other limits for one attachment, or for each attachment of one customer; empty fields leave
    what would hold without it. Takes effect within KEY_CACHE_S in every process."""

    class Scope(models.TextChoices):
        ATTACHMENT = "attachment"
        ACCOUNT = "account"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    scope = models.CharField(max_length=20, choices=Scope.choices)
    scope_id = models.UUIDField(help_text="the attachment's or the account's id")
    model_id = models.CharField(max_length=200, blank=True, help_text="empty: every model")
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True)
    concurrent_requests = models.PositiveIntegerField(null=True, blank=True)
    is_shadow = models.BooleanField(
        null=True, blank=True, help_text="count and report, but refuse nothing"
    )
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["scope", "scope_id", "model_id"], name="limit_override_is_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.scope_id} {self.model_id}".rstrip()
