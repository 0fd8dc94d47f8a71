"""An invoice as a spreadsheet reads it: CSV of its lines, and of the requests behind a line."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime

from billing.models import Invoice, UsageEvent
from billing.spreadsheets import text_cell

MICROUNITS = 1_000_000
LINE_COLUMNS = (
    "position",
    "kind",
    "description",
    "resource_id",
    "resource_name",
    "plan_name",
    "price_id",
    "model_id",
    "start_at",
    "end_at",
    "quantity",
    "unit",
    "unit_price_microunits",
    "amount_microunits",
    "events_count",
    "events_sha256",
)
EVENT_COLUMNS = (
    "id",
    "stored_at",
    "requested_at",
    "outcome",
    "corrects",
    "app_name",
    "attachment_name",
    "attachment_id",
    "credential_id",
    "model_id",
    "inputs",
    "text_tokens",
    "image_tokens",
    "cost_picounits",
)


def lines_csv(invoice: Invoice) -> str:
    """One row for each line, in whole micro-units of the currency (1 USD = 1,000,000)."""
    return _csv(LINE_COLUMNS, invoice.lines.order_by("position"))


def events_csv(events: Iterable[UsageEvent]) -> str:
    """One row for each request or correction; `id` is the request's id."""
    return _csv(EVENT_COLUMNS, events)


def _csv(columns: Sequence[str], rows: Iterable[object]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(getattr(row, column)) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case str():
            return text_cell(value)
        case _:
            return value


def amount(microunits: int) -> str:
    """-1,234.500000: every micro-unit is shown, for each is charged."""
    whole, fraction = divmod(abs(microunits), MICROUNITS)
    return f"{'-' if microunits < 0 else ''}{whole:,}.{fraction:06d}"
