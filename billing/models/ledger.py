"""The ledger of what was used, its sums, and what of it is still to be exported."""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q


class UsageEvent(models.Model):
    """One answered request, or a correction of one: a row of the ledger.

    Rows are only ever inserted; database triggers refuse UPDATE, DELETE and TRUNCATE. Names are
    kept as they were at the time, and nothing here points at a row that may go away. The table is
    partitioned by month of `id`, whose first 48 bits are the time at which it was drawn.
    """

    class Outcome(models.TextChoices):
        ANSWERED = "answered"
        CORRECTION = "correction"

    id = models.UUIDField(
        primary_key=True, help_text="uuid7, drawn before execution; also the request's id"
    )
    customer_id = models.UUIDField()
    resource_id = models.UUIDField()
    attachment_id = models.UUIDField()
    credential_id = models.UUIDField()
    attachment_name = models.CharField(max_length=256)
    app_name = models.CharField(max_length=64, blank=True)
    plan_name = models.CharField(max_length=200)
    price_id = models.BigIntegerField(help_text="the version of the plan's price")
    model_id = models.CharField(max_length=200)
    inputs = models.IntegerField(help_text="texts and images")
    text_tokens = models.IntegerField(help_text="as limited, computed and billed")
    image_tokens = models.IntegerField(default=0, help_text="pixels / 784")
    cost_picounits = models.BigIntegerField(
        help_text="tokens × micro-units per million tokens: 10⁻¹² of the currency"
    )
    outcome = models.CharField(max_length=20, choices=Outcome.choices, default=Outcome.ANSWERED)
    corrects = models.UUIDField(null=True, blank=True, help_text="the row that this one corrects")
    reason = models.CharField(max_length=500, blank=True, help_text="of a correction")
    requested_at = models.DateTimeField()
    stored_at = models.DateTimeField(help_text="by PostgreSQL's clock; decides the billing period")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(outcome="correction", corrects__isnull=False) & ~Q(reason="")
                | Q(
                    outcome="answered",
                    corrects=None,
                    reason="",
                    inputs__gt=0,
                    text_tokens__gte=0,
                    image_tokens__gte=0,
                    cost_picounits__gte=0,
                ),
                name="usage_event_is_answer_or_correction",
            ),
            models.CheckConstraint(
                condition=~Q(outcome="answered", text_tokens=0, image_tokens=0),
                name="usage_event_is_not_empty",
            ),
        ]
        indexes = [
            models.Index(fields=["resource_id", "stored_at"], name="usage_event_by_resource"),
            models.Index(
                fields=["corrects"],
                condition=Q(corrects__isnull=False),
                name="usage_event_corrections",
            ),
            # Rows lie in the order in which they were stored: the smallest index finds a day.
            BrinIndex(fields=["stored_at"], autosummarize=True, name="usage_event_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.tokens} tokens of {self.model_id} for {self.attachment_name}"

    @property
    def tokens(self) -> int:
        return self.text_tokens + self.image_tokens


class UsageSum(models.Model):
    """What the rows of an hour or a day come to, by `stored_at`; written with them in one
    transaction."""

    class Granularity(models.TextChoices):
        HOUR = "hour"
        DAY = "day"

    granularity = models.CharField(max_length=4, choices=Granularity.choices)
    start_at = models.DateTimeField(help_text="UTC")
    customer_id = models.UUIDField()
    resource_id = models.UUIDField()
    attachment_id = models.UUIDField()
    credential_id = models.UUIDField()
    attachment_name = models.CharField(max_length=256)
    app_name = models.CharField(max_length=64, blank=True)
    plan_name = models.CharField(max_length=200)
    price_id = models.BigIntegerField()
    model_id = models.CharField(max_length=200)
    requests = models.BigIntegerField(help_text="answered; corrections do not count")
    inputs = models.BigIntegerField()
    text_tokens = models.BigIntegerField()
    image_tokens = models.BigIntegerField()
    cost_picounits = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "customer_id",
                    "granularity",
                    "start_at",
                    "resource_id",
                    "attachment_id",
                    "credential_id",
                    "price_id",
                    "model_id",
                    "app_name",
                    "attachment_name",
                    "plan_name",
                ],
                name="usage_sum_is_unique",
            ),
        ]
        indexes = [
            models.Index(
                fields=["attachment_id", "granularity", "start_at"], name="usage_sum_by_attachment"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.granularity} {self.start_at:%Y-%m-%d %H:%M} {self.attachment_name}"


class OutboxEntry(models.Model):
    """A row of the ledger that a destination has not been sent yet.

    Without `next_attempt_at` it is set aside: `last_error` says why it cannot be sent.
    """

    destination = models.CharField(max_length=30)
    event_id = models.UUIDField()
    created_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["destination", "event_id"], name="outbox_entry_is_unique"
            ),
        ]
        indexes = [
            models.Index(fields=["destination", "next_attempt_at"], name="outbox_entry_next"),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.destination}"
