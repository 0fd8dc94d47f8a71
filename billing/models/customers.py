"""Who pays, and for which resources on which plans since when."""

import uuid

from django.db import models
from django.db.models import F, Q

from billing.models.plans import Plan


class Customer(models.Model):
    """Who pays: an account of our own platform, or, where another platform sells the add-on, the
    resource that it provisioned (its customer is unknown to us). `id` is that account's or
    resource's."""

    id = models.UUIDField(primary_key=True)
    email = models.EmailField(blank=True)
    name = models.CharField(max_length=200, blank=True)
    stripe_customer_id = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.email or str(self.id)


class Subscription(models.Model):
    """A resource on a plan during [start_at, end_at). A plan change ends one and starts another at
    the same instant."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="subscriptions")
    resource_id = models.UUIDField(db_index=True)
    resource_name = models.CharField(max_length=256, blank=True)
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="subscriptions")
    start_at = models.DateTimeField()
    end_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["resource_id"],
                condition=Q(end_at=None),
                name="subscription_one_open_per_resource",
            ),
            models.UniqueConstraint(
                fields=["resource_id", "start_at"], name="subscription_start_is_unique"
            ),
            models.CheckConstraint(
                condition=Q(end_at=None) | Q(end_at__gte=F("start_at")),
                name="subscription_ends_after_its_start",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.resource_name or self.resource_id} on {self.plan}"
