"""An account's invoices and their lines, found by what a user calls them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from addon.platform.models import Account
from billing.invoices import expand, find_invoice, refresh_draft
from billing.models import Invoice, InvoiceLine, UsageEvent


class InvoiceNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("Couldn't find that invoice.")


class InvoiceLineNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("Couldn't find that line of the invoice.")


@dataclass(frozen=True, kw_only=True, slots=True)
class EventsPage:
    """Rows of the ledger by id; `next` is the id after which there are more, or None."""

    events: Sequence[UsageEvent]
    next: UUID | None


def get_invoice(account: Account, identity: str, now: datetime) -> Invoice:
    """By number or id, a draft as it is now. Another account's is not found. Raises
    InvoiceNotFound."""
    found = find_invoice(account.id, identity)
    if found is not None and found.state == Invoice.State.DRAFT:
        refresh_draft(account.id, now)
        found = find_invoice(account.id, identity)
    if found is None:
        raise InvoiceNotFound
    return found


def get_line(invoice: Invoice, position: str) -> InvoiceLine:
    """Raises InvoiceLineNotFound."""
    is_number = position.isascii() and position.isdigit() and len(position) < 10
    lines = invoice.lines.select_related("invoice")
    found = lines.filter(position=int(position)).first() if is_number else None
    if found is None:
        raise InvoiceLineNotFound
    return found


def read_events(line: InvoiceLine, after: UUID | None, limit: int) -> EventsPage:
    """At most `limit` of the rows behind a line, from the first one after the id `after`."""
    events = expand(line)
    if after is not None:
        events = events.filter(id__gt=after)
    rows = list(events[: limit + 1])
    page = rows[:limit]
    return EventsPage(events=page, next=page[-1].id if len(rows) > limit else None)
