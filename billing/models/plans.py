"""Plans on sale, and what they cost."""

import uuid

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from billing.option_schemas import validate_schema


class Plan(models.Model):
    """What is sold of an add-on service, e.g. `heroku-inference:standard`, and its limits."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    service_name = models.CharField(max_length=100)
    slug = models.CharField(max_length=100)
    human_name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    is_default = models.BooleanField(default=False)
    is_visible = models.BooleanField(default=True)
    is_metered = models.BooleanField(default=False)
    is_contract = models.BooleanField(default=False)
    requests_per_minute = models.PositiveIntegerField(help_text="per attachment and model")
    tokens_per_minute = models.PositiveIntegerField(help_text="per attachment and model")
    concurrent_requests = models.PositiveIntegerField(
        null=True, blank=True, help_text="at once, per attachment and model; empty: any number"
    )
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
    workers = models.PositiveIntegerField(
        default=0, help_text="how many of a resource's own workers are paid for by the hour"
    )
    options_schema = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_schema],
        help_text="JSON Schema of the options of addons:create; each is a string, and those that "
        "it does not name are ignored",
    )
    async_operations = models.JSONField(
        default=list,
        blank=True,
        help_text="what our provider does in the background: provision, plan_change, deprovision",
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

    def clean(self) -> None:
        schema = self.options_schema  # whatever was typed, if it was refused already
        options = schema.get("properties", {}) if isinstance(schema, dict) else {}
        if "model" in options and not self.serves_all_models:
            message = "It has the option model, and the plan serves one model only."
            raise ValidationError({"options_schema": message})

    @property
    def name(self) -> str:
        """The name that Heroku's clients use, `service:plan`."""
        return f"{self.service_name}:{self.slug}"


class Price(models.Model):
    """What a plan costs from `active_from` on, until its next price is active.

    Amounts are in micro-units of the currency (1 USD = 1,000,000). A row is never changed: a new
    price is a new row.
    """

    plan = models.ForeignKey(Plan, models.PROTECT, related_name="prices")
    version = models.PositiveIntegerField(help_text="1, 2, … within the plan")
    active_from = models.DateTimeField()
    currency = models.CharField(max_length=3, default="usd")
    monthly_microunits = models.BigIntegerField(default=0, help_text="prorated by the second")
    worker_hour_microunits = models.BigIntegerField(default=0, help_text="prorated by the second")
    token_prices = models.JSONField(
        default=dict, help_text='micro-units per million text tokens, by model id; "*": the others'
    )
    image_token_prices = models.JSONField(
        default=dict, help_text="the same for the tokens of images (pixels / 784)"
    )
    included_tokens = models.BigIntegerField(default=0, help_text="a month, prorated by the second")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["plan", "version"], name="price_version_is_unique"),
            models.UniqueConstraint(fields=["plan", "active_from"], name="price_start_is_unique"),
            models.CheckConstraint(
                condition=models.Q(
                    monthly_microunits__gte=0, worker_hour_microunits__gte=0, included_tokens__gte=0
                ),
                name="price_is_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan} v{self.version}"
