"""`manage.py invoices`: list, show and close invoices; grant credits and issue credit notes."""

import uuid
from argparse import ArgumentParser, ArgumentTypeError
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from billing.credits import (
    CreditNoteTooLarge,
    CustomerNotFound,
    InvalidCredit,
    InvoiceNotFinal,
    creditable_microunits,
    grant_credit,
    issue_credit_note,
)
from billing.invoice_documents import amount
from billing.invoices import close_customer, expand, list_invoices, read_clock, refresh_draft
from billing.models import Customer, Invoice
from billing.periods import Period, parse_month

MICROUNITS = 1_000_000


class Command(BaseCommand):
    help = "Invoices: list them, show one, close what is over, grant credits, issue credit notes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        listing = verbs.add_parser("list", help="a customer's invoices, the newest first")
        _add_customer(listing)
        show = verbs.add_parser("show", help="an invoice and its lines")
        show.add_argument("invoice", metavar="NUMBER|ID")
        show.add_argument("--rows", action="store_true", help="and the requests of each line")
        closing = verbs.add_parser(
            "close",
            help="close every month that is over; safe to repeat and to run in parallel. A worker "
            "does it by itself, four times an hour",
        )
        closing.add_argument(
            "--customer", type=_customer, metavar="ID|EMAIL", help="of this customer only"
        )
        closing.add_argument(
            "--period", type=_period, metavar="YYYY-MM", help="this month only, e.g. 2026-11"
        )
        credit = verbs.add_parser("credit", help="grant a credit, used up by the next invoices")
        _add_customer(credit)
        _add_amount(credit)
        note = verbs.add_parser(
            "credit-note", help="take back part of a final invoice; it becomes a credit"
        )
        note.add_argument("invoice", metavar="NUMBER|ID")
        _add_amount(note)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        getattr(self, f"_{verb.replace('-', '_')}")(options)

    def _list(self, options: dict[str, Any]) -> None:
        for invoice in list_invoices(options["customer"].id, read_clock()):
            self.stdout.write(_headline(invoice))

    def _show(self, options: dict[str, Any]) -> None:
        invoice = _get_invoice(options["invoice"])
        if invoice.state == Invoice.State.DRAFT:
            refresh_draft(invoice.customer_id, read_clock())
            invoice.refresh_from_db()
        self.stdout.write(_headline(invoice))
        for line in invoice.lines.order_by("position"):
            quantity = f"{line.quantity:,} {line.unit}s" if line.unit else ""
            name = line.resource_name or line.resource_id or ""
            self.stdout.write(
                f"{line.position:>4}  {amount(line.amount_microunits):>16}  {quantity:>24}  "
                f"{line.description}  {name}".rstrip()
            )
            if options["rows"]:
                for row in expand(line).iterator():
                    self.stdout.write(f"      {row.id}  {row.stored_at:%FT%T}  {row.tokens:,}")

    def _close(self, options: dict[str, Any]) -> None:
        now, period = read_clock(), options["period"]
        customers = (
            [options["customer"]] if options["customer"] else Customer.objects.order_by("id")
        )
        closed, failures = 0, 0
        for customer in tqdm(list(customers), unit="customer", disable=None):
            try:
                made = close_customer(customer.id, now, period)
            except Exception as error:  # noqa: BLE001 - the others do not wait for it; it is told
                failures += 1
                self.stderr.write(f"{customer}: {error}")
                continue
            closed += len(made)
            for invoice in made:
                self.stdout.write(_headline(invoice))
        self.stdout.write(f"{closed} closed, {failures} failed")
        if failures:
            raise CommandError(f"{failures} customers could not be invoiced: see above")

    def _credit(self, options: dict[str, Any]) -> None:
        customer = options["customer"]
        try:
            credit = grant_credit(customer.id, options["amount"], options["reason"], read_clock())
        except (InvalidCredit, CustomerNotFound) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{amount(credit.amount_microunits)} {credit.currency} for {customer}")

    def _credit_note(self, options: dict[str, Any]) -> None:
        invoice = _get_invoice(options["invoice"])
        try:
            note = issue_credit_note(invoice, options["amount"], options["reason"], read_clock())
        except (InvalidCredit, InvoiceNotFinal, CreditNoteTooLarge) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(
            f"credit note {note.number}: {amount(note.amount_microunits)} {invoice.currency} of "
            f"invoice {invoice.number}; {amount(creditable_microunits(invoice))} are left of it"
        )


def _add_customer(parser: ArgumentParser) -> None:
    parser.add_argument("customer", type=_customer, metavar="ID|EMAIL")


def _add_amount(parser: ArgumentParser) -> None:
    parser.add_argument("amount", type=_amount, metavar="AMOUNT", help="such as 12.50")
    parser.add_argument("reason", metavar="REASON", help="the customer reads it")


def _customer(text: str) -> Customer:
    try:
        found = list(Customer.objects.filter(id=uuid.UUID(text)))
    except ValueError:
        found = list(Customer.objects.filter(email__iexact=text))
    if len(found) != 1:
        raise ArgumentTypeError(f"{len(found)} customers are {text!r}; name one by its id")
    return found[0]


def _period(text: str) -> Period:
    try:
        return parse_month(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no month such as 2026-11") from None


def _amount(text: str) -> int:
    """In micro-units; exact, or refused."""
    try:
        microunits = Decimal(text) * MICROUNITS
        if microunits == int(microunits):
            return int(microunits)
    except (InvalidOperation, OverflowError, ValueError):
        pass
    raise ArgumentTypeError(f"{text!r} is no amount such as 12.50, of at most 6 decimals")


def _get_invoice(number_or_id: str) -> Invoice:
    invoices = Invoice.objects.select_related("customer")
    try:
        if number_or_id.isdigit():
            return invoices.get(number=int(number_or_id))
        return invoices.get(id=uuid.UUID(number_or_id))
    except (Invoice.DoesNotExist, ValueError):
        raise CommandError(f"there is no invoice {number_or_id}") from None


def _headline(invoice: Invoice) -> str:
    number = invoice.number or "draft"
    total = f"{amount(invoice.total_microunits)} {invoice.currency}"
    return f"{number}  {invoice.period_start:%Y-%m}  {total}  {invoice.customer}  {invoice.id}"
