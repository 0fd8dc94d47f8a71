"""Subscriptions: which customer pays for which resource, on which plan since when."""

import uuid
from datetime import datetime

from django.db import connection, transaction
from django.db.models import QuerySet

from billing.compiled_queries import CompiledQuery
from billing.models import Customer, Invoice, Plan, Subscription


class NotSubscribed(Exception):
    """The resource has no open subscription."""


# The customer's lock waits for an invoice that is being closed. Nothing is done for a resource that
# has an open subscription.
_UPSERT_CUSTOMER = """
    INSERT INTO billing_customer (id, email, name, stripe_customer_id, created_at)
    SELECT %(customer)s, %(email)s, %(name)s, '', now()
    WHERE NOT EXISTS (SELECT FROM billing_subscription
        WHERE resource_id = %(resource)s AND end_at IS NULL)
    ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name
"""
# A statement of its own, which sees the invoice that the lock has waited for. Another process may
# have come first: it is waited for, and its subscription holds.
_OPEN = """
    INSERT INTO billing_subscription
        (id, customer_id, resource_id, resource_name, plan_id, start_at)
    SELECT gen_random_uuid(), %(customer)s, %(resource)s, %(resource_name)s, %(plan)s,
        greatest(%(now)s, (SELECT max(period_end) FROM billing_invoice
            WHERE customer_id = %(customer)s AND state = 'final'))
    ON CONFLICT (resource_id) WHERE end_at IS NULL DO NOTHING
"""


def subscribe(
    *,
    resource_id: uuid.UUID,
    customer_id: uuid.UUID,
    email: str,
    name: str,
    resource_name: str,
    plan: Plan,
    now: datetime,
) -> None:
    """The customer pays for the resource from now on; idempotent.

    A resource that has an open subscription keeps it, whoever pays and whatever the plan.
    """
    values: dict[str, uuid.UUID | str | datetime] = {
        "customer": customer_id,
        "email": email,
        "name": name,
        "resource": resource_id,
        "resource_name": resource_name,
        "plan": plan.id,
        "now": now,
    }
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        cursor.execute(_UPSERT_CUSTOMER, values)
        if cursor.rowcount:
            cursor.execute(_OPEN, values)


def change_plan(resource_id: uuid.UUID, plan: Plan, now: datetime) -> Subscription:
    """End the open subscription and start one of `plan` at the same instant; idempotent.

    Raises NotSubscribed.
    """
    with transaction.atomic():
        subscription = _lock(resource_id)
        if subscription is None:
            raise NotSubscribed(f"resource {resource_id} has no open subscription")
        if subscription.plan_id == plan.id:
            return subscription
        at = _end_of(subscription, now)
        if at == subscription.start_at:  # it was never in force
            subscription.plan = plan
            subscription.save(update_fields=["plan"])
            return subscription
        subscription.end_at = at
        subscription.save(update_fields=["end_at"])
        return Subscription.objects.create(
            customer_id=subscription.customer_id,
            resource_id=resource_id,
            resource_name=subscription.resource_name,
            plan=plan,
            start_at=at,
        )


def end_subscription(resource_id: uuid.UUID, now: datetime) -> None:
    """Nothing more is owed for the resource; idempotent."""
    with transaction.atomic():
        subscription = _lock(resource_id)
        if subscription is not None:
            subscription.end_at = _end_of(subscription, now)
            subscription.save(update_fields=["end_at"])


def rename_resource(resource_id: uuid.UUID, name: str) -> None:
    """What invoices that are still to be made call the resource."""
    Subscription.objects.filter(resource_id=resource_id, end_at=None).update(resource_name=name)


def rename_customer(customer_id: uuid.UUID, *, email: str, name: str) -> None:
    """To whom invoices that are still to be made are addressed; of no customer it is no error."""
    Customer.objects.filter(id=customer_id).update(email=email, name=name)


def find_customer_id(resource_id: uuid.UUID) -> uuid.UUID | None:
    """Who pays for the resource now."""
    found = _payer_of.first(resource_id)
    return None if found is None else found[0]


@CompiledQuery
def _payer_of(resource_id: uuid.UUID) -> QuerySet[Subscription, tuple[uuid.UUID]]:
    return Subscription.objects.filter(resource_id=resource_id, end_at=None).values_list(
        "customer_id"
    )


def _lock(resource_id: uuid.UUID) -> Subscription | None:
    open_ones = Subscription.objects.select_for_update().filter(
        resource_id=resource_id, end_at=None
    )
    return open_ones.first()


def _end_of(subscription: Subscription, now: datetime) -> datetime:
    """`now`, or the start if a clock says that it is earlier."""
    return max(_not_invoiced_yet(subscription.customer_id, now), subscription.start_at)


def _not_invoiced_yet(customer_id: uuid.UUID, now: datetime) -> datetime:
    """`now`, or the end of what is invoiced if a clock that is slow says that it is earlier."""
    final = Invoice.objects.filter(customer_id=customer_id, state=Invoice.State.FINAL)
    ended_at = final.order_by("-period_end").values_list("period_end", flat=True).first()
    return max(now, ended_at) if ended_at else now
