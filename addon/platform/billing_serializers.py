"""Answers about usage, invoices and budgets. Those that Heroku has are as its schema has them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from addon.json_api import iso
from addon.platform.account_invoices import EventsPage
from addon.platform.usage import AddonUsage, Owner
from billing.invoice_documents import EVENT_COLUMNS, LINE_COLUMNS
from billing.invoice_export import plain
from billing.models import Budget, Invoice, InvoiceLine
from billing.periods import round_ratio
from billing.prices import MICROUNITS_PER_CENT, PICOUNITS_PER_MICROUNIT

Answer = dict[str, object]

# Heroku's schema calls `state` an integer and does not say which.
STATES = {Invoice.State.DRAFT: 0, Invoice.State.FINAL: 1}


def app_usage_json(app_id: UUID, used: Sequence[AddonUsage]) -> Answer:
    return {
        "id": str(app_id),
        "addons": [
            {
                "id": str(usage.addon_id),
                "meters": {
                    label: {"quantity": quantity} for label, quantity in usage.meters.items()
                },
            }
            for usage in used
        ],
    }


def team_usage_json(owner: Owner, apps: Mapping[UUID, Sequence[AddonUsage]]) -> Answer:
    return {
        "id": str(owner.id),
        "name": owner.name,
        "apps": [app_usage_json(app_id, used) for app_id, used in apps.items()],
    }


def invoice_json(invoice: Invoice) -> Answer:
    """Totals in units of the currency. A draft has no `number` yet, and is found by its id."""
    last_day = invoice.period_end - timedelta(seconds=1)
    answer: Answer = {
        "charges_total": _units(invoice.charges_microunits),
        "created_at": iso(invoice.created_at),
        "credits_total": _units(invoice.credits_microunits),
        "id": str(invoice.id),
        "period_end": f"{last_day:%m/%d/%Y}",
        "period_start": f"{invoice.period_start:%m/%d/%Y}",
        "state": STATES[Invoice.State(invoice.state)],
        "total": _units(invoice.total_microunits),
        "updated_at": iso(invoice.updated_at),
    }
    return answer if invoice.number is None else {**answer, "number": invoice.number}


def team_invoice_json(invoice: Invoice) -> Answer:
    """As `invoice_json`, but for Heroku's schema having a team's totals as integers: cents."""
    answer = invoice_json(invoice)
    charges = round_ratio(invoice.charges_microunits, MICROUNITS_PER_CENT)
    return answer | {
        "addons_total": charges,
        "charges_total": charges,
        "credits_total": round_ratio(invoice.credits_microunits, MICROUNITS_PER_CENT),
        "database_total": 0,
        "dyno_units": 0,
        "platform_total": 0,
        "total": round_ratio(invoice.total_microunits, MICROUNITS_PER_CENT),
        "weighted_dyno_hours": 0,
    }


def _units(microunits: int) -> float:
    return float(Decimal(microunits).scaleb(-6))


def line_json(line: InvoiceLine) -> Answer:
    return {name: plain(getattr(line, name)) for name in LINE_COLUMNS}


def events_json(page: EventsPage) -> Answer:
    rows = [{name: plain(getattr(event, name)) for name in EVENT_COLUMNS} for event in page.events]
    return {"events": rows, "next": page.next and str(page.next)}


def budget_json(budget: Budget, spent_picounits: int) -> Answer:
    """`spent_microunits` is this month's, rounded down. The webhook's secret is not shown."""
    return {
        "created_at": iso(budget.created_at),
        "email": budget.email or None,
        "id": str(budget.id),
        "is_hard": budget.is_hard,
        "limit_microunits": budget.limit_microunits,
        "scope": budget.scope,
        "scope_id": budget.scope_id,
        "spent_microunits": spent_picounits // PICOUNITS_PER_MICROUNIT,
        "thresholds": budget.thresholds,
        "updated_at": iso(budget.updated_at),
        "webhook_url": budget.webhook_url or None,
    }
