"""A customer with a plan of every kind of price, a month's usage of it, and its final invoice."""

import importlib.util
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from billing.bulk import record_many
from billing.credits import grant_credit
from billing.invoices import close
from billing.metering import Usage
from billing.models import Invoice, Plan, Price
from billing.periods import month_of
from billing.subscriptions import change_plan, end_subscription, subscribe

MONTH = month_of(datetime(2026, 10, 1, tzinfo=UTC))
AFTER = datetime(2026, 11, 2, tzinfo=UTC)
MODEL = "cohere-embed-v4"
TEXT_PRICE, IMAGE_PRICE = 120_000, 470_001

VERIFIER = Path(__file__).resolve().parents[2] / "bin" / "verify_invoice.py"


def load_verifier() -> ModuleType:
    """The program that customers get, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("verify_invoice", VERIFIER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, kw_only=True)
class Month:
    """What was used in it, by whom, and what it was invoiced as."""

    customer_id: uuid.UUID
    resource_id: uuid.UUID
    usages: list[Usage]
    invoice: Invoice


def new_plan(slug: str, *, workers: int = 0, **price: Any) -> Plan:
    plan = Plan.objects.create(
        service_name="heroku-inference", slug=slug, human_name=slug, workers=workers,
        requests_per_minute=1, tokens_per_minute=1,
    )  # fmt: skip
    since = datetime(2026, 1, 1, tzinfo=UTC)
    Price.objects.create(plan=plan, version=1, active_from=since, **price)
    return plan


def invoiced_month(new_usage: Callable[..., Usage], customer_id: uuid.UUID | None = None) -> Month:
    """October 2026: half of it on a plan with all prices, then reserved workers, some credit."""
    customer_id, resource_id = customer_id or uuid.uuid4(), uuid.uuid4()
    tokens: dict[str, Any] = {
        "token_prices": {MODEL: TEXT_PRICE},
        "image_token_prices": {MODEL: IMAGE_PRICE},
    }
    full = new_plan("full", monthly_microunits=29_000_000, included_tokens=100, **tokens)
    reserved = new_plan("reserved", workers=2, worker_hour_microunits=2_940_000, **tokens)
    subscribe(
        resource_id=resource_id, customer_id=customer_id, email="dev@example.com", name="Dev",
        resource_name="inference-acute-10001", plan=full, now=datetime(2026, 10, 3, 7, tzinfo=UTC),
    )  # fmt: skip
    change_plan(resource_id, reserved, datetime(2026, 10, 19, 12, 0, 1, tzinfo=UTC))
    end_subscription(resource_id, datetime(2026, 10, 22, tzinfo=UTC))
    usages = [
        new_usage(
            customer_id=customer_id, resource_id=resource_id, model_id=MODEL,
            plan_name=full.name, price_id=full.prices.get().id,
            text_tokens=100 + number, image_tokens=number,
            cost_picounits=(100 + number) * TEXT_PRICE + number * IMAGE_PRICE,
        )
        for number in range(5)
    ]  # fmt: skip
    record_many(usages, stored_at=datetime(2026, 10, 5, tzinfo=UTC))
    grant_credit(customer_id, 5_000_000, "Welcome", datetime(2026, 10, 4, tzinfo=UTC))
    invoice = close(customer_id, MONTH, AFTER)
    return Month(customer_id=customer_id, resource_id=resource_id, usages=usages, invoice=invoice)
