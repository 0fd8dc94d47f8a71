"""Credits, what invoices took of them, and credit notes. Amounts are integers in micro-units."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from django.db.models import Max, Sum

from billing.models import Credit, CreditNote, CreditUse, Customer, Invoice
from billing.prices import currency

REASON_MAX_CHARACTERS = 500
AMOUNT_MAX_MICROUNITS = 10**15


class InvalidCredit(Exception):
    """An amount or a reason that cannot be; the text names it and says what is allowed."""


class CustomerNotFound(Exception):
    pass


class InvoiceNotFinal(Exception):
    """Only a final invoice can be credited: a draft follows the ledger by itself."""


class CreditNoteTooLarge(Exception):
    """More than what is left of the invoice's total."""


@dataclass(kw_only=True, slots=True)
class Available:
    """A credit, and how much of it is left."""

    id: uuid.UUID
    reason: str
    left_microunits: int
    taken_microunits: int = 0

    def take(self, at_most: int) -> int:
        """Take what there is, in micro-units."""
        taken = min(self.left_microunits, at_most)
        self.left_microunits -= taken
        self.taken_microunits += taken
        return taken


def lock_customer(customer_id: uuid.UUID) -> None:
    """Until the transaction ends, nobody else makes this customer's invoices or uses up credits."""
    with connection.cursor() as cursor:
        key = f"billing.invoices {customer_id}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])


def next_number(table: type[Invoice] | type[CreditNote]) -> int:
    """One more than the last, with no gaps: until the transaction ends, nobody else gets one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"{table.__name__} numbers"])
    last = table._default_manager.aggregate(last=Max("number"))["last"]
    return int(last or 0) + 1


def available_credits(customer_id: uuid.UUID) -> list[Available]:
    """What is left of the customer's credits, the oldest first."""
    found = (
        Credit.objects.filter(customer_id=customer_id)
        .annotate(used=Sum("uses__amount_microunits", default=0))
        .order_by("created_at", "id")
    )
    return [
        Available(
            id=credit.id,
            reason=credit.reason,
            left_microunits=credit.amount_microunits - credit.used,
        )
        for credit in found
        if credit.amount_microunits > credit.used
    ]


def use_credits(invoice: Invoice, available: Sequence[Available]) -> None:
    """Write down what the invoice took."""
    CreditUse.objects.bulk_create(
        CreditUse(credit_id=credit.id, invoice=invoice, amount_microunits=credit.taken_microunits)
        for credit in available
        if credit.taken_microunits
    )


def carry_over(invoice: Invoice, now: datetime) -> Credit:
    """What an invoice of less than nothing leaves becomes a credit."""
    return Credit.objects.create(
        customer_id=invoice.customer_id,
        currency=invoice.currency,
        amount_microunits=-invoice.credits_microunits,
        reason=f"Carried over from invoice {invoice.number}",
        created_at=now,
    )


def grant_credit(
    customer_id: uuid.UUID, amount_microunits: int, reason: str, now: datetime
) -> Credit:
    """Money in the customer's favour, for the next invoices. Raises InvalidCredit,
    CustomerNotFound."""
    check_credit(amount_microunits, reason)
    if not Customer.objects.filter(id=customer_id).exists():
        raise CustomerNotFound(f"there is no customer {customer_id}")
    return Credit.objects.create(
        customer_id=customer_id,
        currency=currency(),
        amount_microunits=amount_microunits,
        reason=reason,
        created_at=now,
    )


def issue_credit_note(
    invoice: Invoice, amount_microunits: int, reason: str, now: datetime
) -> CreditNote:
    """Take back part of a final invoice; the amount becomes a credit.

    Raises InvalidCredit, InvoiceNotFinal, CreditNoteTooLarge.
    """
    with transaction.atomic():
        lock_customer(invoice.customer_id)
        check_credit_note(invoice, amount_microunits, reason)
        note = CreditNote.objects.create(
            number=next_number(CreditNote),
            invoice=invoice,
            amount_microunits=amount_microunits,
            reason=reason,
            created_at=now,
        )
        Credit.objects.create(
            customer_id=invoice.customer_id,
            currency=invoice.currency,
            amount_microunits=amount_microunits,
            reason=f"Credit note {note.number} for invoice {invoice.number}",
            credit_note=note,
            created_at=now,
        )
    return note


def creditable_microunits(invoice: Invoice) -> int:
    """The invoice's total less what earlier credit notes took back."""
    noted = invoice.credit_notes.aggregate(sum=Sum("amount_microunits", default=0))["sum"]
    return invoice.total_microunits - int(noted)


def check_credit(amount_microunits: int, reason: str) -> None:
    """Raises InvalidCredit."""
    if not 0 < amount_microunits <= AMOUNT_MAX_MICROUNITS:
        raise InvalidCredit(f"the amount must be 1 to {AMOUNT_MAX_MICROUNITS} micro-units")
    if not reason.strip() or len(reason) > REASON_MAX_CHARACTERS:
        raise InvalidCredit(f"the reason must have 1 to {REASON_MAX_CHARACTERS} characters")


def check_credit_note(invoice: Invoice, amount_microunits: int, reason: str) -> None:
    """Raises InvalidCredit, InvoiceNotFinal, CreditNoteTooLarge."""
    check_credit(amount_microunits, reason)
    if invoice.state != Invoice.State.FINAL:
        raise InvoiceNotFinal("the invoice is a draft: it follows the ledger by itself")
    left = creditable_microunits(invoice)
    if amount_microunits > left:
        raise CreditNoteTooLarge(
            f"{left} micro-units are left to be credited of invoice {invoice.number}"
        )
