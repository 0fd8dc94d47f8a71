"""Budgets, the thresholds that were crossed, and who was told."""

import uuid

from django.db import models
from django.db.models.functions import Lower

from billing.encryption import EncryptedTextField
from billing.models.customers import Customer


def default_thresholds() -> list[int]:
    return [50, 80, 100]


class Budget(models.Model):
    """What may be spent on tokens in a calendar month (UTC) by an attachment, an app or an account.

    A hard budget refuses what would exceed it; a soft one only tells.
    """

    class Scope(models.TextChoices):
        ATTACHMENT = "attachment"
        APP = "app"
        ACCOUNT = "account"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    customer = models.ForeignKey(Customer, models.CASCADE, related_name="budgets")
    scope = models.CharField(max_length=20, choices=Scope.choices)
    scope_id = models.CharField(
        max_length=64, help_text="the attachment's id, the app's name, or the account's id"
    )
    limit_microunits = models.BigIntegerField(help_text="a month; 1 USD = 1,000,000")
    is_hard = models.BooleanField(default=False)
    thresholds = models.JSONField(default=default_thresholds, help_text="per cent of the limit")
    email = models.EmailField(blank=True)
    webhook_url = models.CharField(max_length=500, blank=True)
    webhook_secret = EncryptedTextField(blank=True, help_text="whsec_…")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "scope", "scope_id"], name="budget_is_unique"
            ),
            models.CheckConstraint(
                condition=models.Q(limit_microunits__gte=0), name="budget_is_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.scope_id}"


class BudgetAlert(models.Model):
    """A threshold that was crossed; once a month each."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    budget = models.ForeignKey(Budget, models.CASCADE, related_name="alerts")
    period_start = models.DateField()
    threshold = models.PositiveIntegerField(help_text="per cent")
    limit_microunits = models.BigIntegerField()
    spent_microunits = models.BigIntegerField()
    not_told = models.TextField(
        blank=True, default="", db_default="", help_text="who was not told of it, and why"
    )
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["budget", "period_start", "threshold"], name="budget_alert_is_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.budget} {self.threshold} %"


def recipient(target: str | models.Value) -> Lower:
    """Whom an expression that is a target reaches: the same for `A+x@example.com` and
    `a@example.com`, which most mail servers put into one mailbox."""
    tag, nothing = models.Value(r"\+[^@]*@"), models.Value("@")
    return Lower(models.Func(target, tag, nothing, function="regexp_replace"))


class Notification(models.Model):
    """Something to be told by e-mail or webhook; tried again until it is delivered or given up."""

    class Channel(models.TextChoices):
        EMAIL = "email"
        WEBHOOK = "webhook"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    channel = models.CharField(max_length=20, choices=Channel.choices)
    target = models.CharField(max_length=500, help_text="an address or a URL")
    secret = EncryptedTextField(blank=True)
    subject = models.CharField(max_length=200)
    payload = models.JSONField()
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_index=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(
                "channel", recipient("target"), "created_at", name="notification_recipient"
            ),
            models.Index(
                fields=["created_at"],
                condition=models.Q(next_attempt_at=None),
                name="notification_ended",
            ),
        ]

    def __str__(self) -> str:
        return self.subject
