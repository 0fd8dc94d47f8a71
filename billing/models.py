"""The tables of billing: plans on sale, and the ledger of what was used."""

import uuid

from django.core.validators import RegexValidator
from django.db import models


class Plan(models.Model):
    """A price and limits of an add-on service, e.g. `heroku-inference:standard`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    service_name = models.CharField(max_length=100)
    slug = models.CharField(max_length=100)
    human_name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    is_default = models.BooleanField(default=False)
    is_visible = models.BooleanField(default=True)
    price_cents = models.PositiveIntegerField(default=0, help_text="per month")
    is_metered = models.BooleanField(default=False)
    is_contract = models.BooleanField(default=False)
    requests_per_minute = models.PositiveIntegerField(help_text="per attachment and model")
    tokens_per_minute = models.PositiveIntegerField(help_text="per attachment and model")
    model_id = models.CharField(max_length=200, blank=True, help_text="default embedding model")
    serves_all_models = models.BooleanField(
        default=True, help_text="every model by the model parameter, or its own only"
    )
    worker_pool = models.CharField(
        max_length=64,
        default="shared",
        validators=[RegexValidator(r"^[A-Za-z0-9_-]+\Z", "letters, digits, - and _")],
        help_text='the workers that serve it; "resource" gives each resource a pool of its own',
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["service_name", "slug"], name="plan_name_is_unique"),
            models.UniqueConstraint(
                fields=["service_name"],
                condition=models.Q(is_default=True),
                name="plan_one_default_per_service",
            ),
            models.CheckConstraint(
                condition=models.Q(serves_all_models=True) | ~models.Q(model_id=""),
                name="plan_of_one_model_names_it",
                violation_error_message="A plan that serves one model only must name it.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The name that Heroku's clients use, `service:plan`."""
        return f"{self.service_name}:{self.slug}"


class UsageEvent(models.Model):
    """One answered request: a row of the ledger.

    Rows are only ever inserted; a database trigger refuses UPDATE and DELETE. Names are kept as
    they were at the time, and nothing here points at a row that may go away.
    """

    id = models.UUIDField(primary_key=True, help_text="uuid7, drawn before execution")
    request_id = models.CharField(max_length=64)
    resource_id = models.UUIDField(db_index=True)
    attachment_id = models.UUIDField(db_index=True)
    credential_id = models.UUIDField()
    attachment_name = models.CharField(max_length=256)
    app_name = models.CharField(max_length=64, blank=True)
    plan_name = models.CharField(max_length=200)
    model_id = models.CharField(max_length=200)
    inputs = models.PositiveIntegerField(help_text="texts")
    tokens = models.PositiveIntegerField(help_text="as limited, computed and billed")
    requested_at = models.DateTimeField()
    stored_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(inputs__gt=0, tokens__gt=0), name="usage_event_is_not_empty"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tokens} tokens of {self.model_id} for {self.attachment_name}"
