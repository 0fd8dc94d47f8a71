"""Invoices, credits and credit notes. What is final is never changed: triggers refuse it."""

import uuid

from django.db import models
from django.db.models import Q

from billing.models.customers import Customer


class Invoice(models.Model):
    """What a customer owes for [period_start, period_end), a calendar month in UTC.

    total = charges - credits. A draft is made anew from the ledger whenever it is looked at.
    """

    class State(models.TextChoices):
        DRAFT = "draft"
        FINAL = "final"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    number = models.BigIntegerField(null=True, blank=True, unique=True, help_text="of final ones")
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="invoices")
    customer_email = models.EmailField(blank=True, help_text="as it was when this was made")
    customer_name = models.CharField(max_length=200, blank=True)
    currency = models.CharField(max_length=3)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.DRAFT)
    charges_microunits = models.BigIntegerField(default=0)
    credits_microunits = models.BigIntegerField(default=0)
    total_microunits = models.BigIntegerField(default=0)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    finalized_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer", "currency", "period_start"], name="invoice_is_unique"
            ),
            models.CheckConstraint(
                condition=Q(state="draft", number=None) | Q(state="final", number__isnull=False),
                name="invoice_has_a_number_when_final",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.number or 'draft'} {self.customer} {self.period_start:%Y-%m}"


class InvoiceLine(models.Model):
    """One item. Those of tokens expand to the ledger's rows of the resource, price and model that
    were stored in [start_at, end_at)."""

    class Kind(models.TextChoices):
        FLAT = "flat"
        WORKER_HOURS = "worker_hours"
        TEXT_TOKENS = "text_tokens"
        IMAGE_TOKENS = "image_tokens"
        INCLUDED = "included"
        CREDIT = "credit"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    invoice = models.ForeignKey(Invoice, models.CASCADE, related_name="lines")
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=20, choices=Kind.choices)
    description = models.CharField(max_length=500)
    resource_id = models.UUIDField(null=True, blank=True)
    resource_name = models.CharField(max_length=256, blank=True)
    plan_name = models.CharField(max_length=200, blank=True)
    price_id = models.BigIntegerField(null=True, blank=True)
    model_id = models.CharField(max_length=200, blank=True)
    quantity = models.BigIntegerField(help_text="in `unit`s")
    unit = models.CharField(max_length=20, help_text="token or second; empty: an amount")
    unit_price_microunits = models.BigIntegerField(
        default=0, help_text="per million tokens, per month or per worker-hour"
    )
    amount_microunits = models.BigIntegerField()
    start_at = models.DateTimeField()
    end_at = models.DateTimeField()
    events_count = models.BigIntegerField(default=0)
    events_sha256 = models.CharField(
        max_length=64, blank=True, help_text="over the ledger's rows, once final"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["invoice", "position"], name="invoice_line_position_is_unique"
            ),
        ]

    def __str__(self) -> str:
        return self.description


class CreditNote(models.Model):
    """Takes back part of a final invoice; the amount becomes a credit."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    number = models.BigIntegerField(unique=True)
    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="credit_notes")
    amount_microunits = models.BigIntegerField()
    reason = models.CharField(max_length=500)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_microunits__gt=0), name="credit_note_is_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.number} for {self.invoice}"


class Credit(models.Model):
    """Money in a customer's favour, used up by the next invoices."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="credits")
    currency = models.CharField(max_length=3)
    amount_microunits = models.BigIntegerField()
    reason = models.CharField(max_length=500)
    credit_note = models.OneToOneField(CreditNote, models.PROTECT, null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_microunits__gt=0), name="credit_is_positive"),
        ]

    def __str__(self) -> str:
        return self.reason


class CreditUse(models.Model):
    """What a final invoice took of a credit."""

    credit = models.ForeignKey(Credit, models.PROTECT, related_name="uses")
    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="credit_uses")
    amount_microunits = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["credit", "invoice"], name="credit_use_is_unique"),
            models.CheckConstraint(
                condition=Q(amount_microunits__gt=0), name="credit_use_is_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_microunits} of {self.credit}"
