"""What an invoice's documents say: its PDF as PDFium reads it, and its CSV."""

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pypdfium2  # type: ignore[import-untyped]  # publishes no type information
import pytest

from billing.invoice_documents import EVENT_COLUMNS, amount, events_csv, lines_csv
from billing.invoice_pdf import invoice_pdf
from billing.invoices import expand
from billing.metering import Usage
from billing.models import Customer, Invoice, InvoiceLine, UsageEvent
from billing.periods import month_of
from tests.billing.invoicing import AFTER, Month, invoiced_month

pytestmark = pytest.mark.django_db

ISSUER = "https://annex.example.com"


@pytest.fixture
def month(new_usage: Callable[..., Usage]) -> Month:
    return invoiced_month(new_usage)


@contextmanager
def opened(pdf: bytes) -> Iterator[Any]:
    document = pypdfium2.PdfDocument(pdf)
    try:
        yield document
    finally:
        document.close()


def texts_of(pdf: bytes) -> list[str]:
    """The text of each page, its lines joined."""
    texts = []
    with opened(pdf) as document:
        for number in range(len(document)):
            page = document[number]
            text_page = page.get_textpage()
            texts.append(" ".join(text_page.get_text_bounded().split()))
            text_page.close()
            page.close()
    return texts


def test_a_pdf_shows_number_customer_lines_and_totals(month: Month) -> None:
    (text,) = texts_of(invoice_pdf(month.invoice, ISSUER))
    assert f"Invoice {month.invoice.number}" in text
    assert "For 1 October 2026 to 31 October 2026 (UTC), issued on 2 November 2026" in text
    for expected in ("dev@example.com", str(month.customer_id), ISSUER, "inference-acute-10001"):
        assert expected in text
    for line in month.invoice.lines.all():
        assert line.description in text
        assert amount(line.amount_microunits) in text
    assert f"Credits {amount(-5_000_000)}" in text
    assert f"Total (USD) {amount(month.invoice.total_microunits)}" in text
    assert "Page 1 of 1" in text


def test_the_same_invoice_is_the_same_pdf(month: Month) -> None:
    before = invoice_pdf(month.invoice, ISSUER)
    Customer.objects.update(email="other@example.com", name="Other")
    assert invoice_pdf(Invoice.objects.get(id=month.invoice.id), ISSUER) == before


def test_a_draft_says_that_it_is_one(month: Month) -> None:
    draft = Invoice.objects.create(
        customer_id=month.customer_id, currency="usd", created_at=AFTER, updated_at=AFTER,
        period_start=month_of(AFTER).start_at, period_end=month_of(AFTER).end_at,
    )  # fmt: skip
    (text,) = texts_of(invoice_pdf(draft, ISSUER))
    assert "Draft invoice" in text
    assert "Not final" in text


def test_a_name_that_the_font_cannot_show_is_left_to_the_id(month: Month) -> None:
    month.invoice.customer_name = "株式会社"
    (text,) = texts_of(invoice_pdf(month.invoice, ISSUER))
    assert str(month.customer_id) in text


def test_a_letter_that_the_font_cannot_show_is_a_question_mark(month: Month) -> None:
    draft = Invoice.objects.create(
        customer_id=month.customer_id, currency="usd", created_at=AFTER, updated_at=AFTER,
        period_start=month_of(AFTER).start_at, period_end=month_of(AFTER).end_at,
    )  # fmt: skip
    InvoiceLine.objects.create(
        invoice=draft, position=1, kind="credit", description="Für 東京", quantity=1, unit="",
        amount_microunits=-1, start_at=AFTER, end_at=AFTER,
    )  # fmt: skip
    (text,) = texts_of(invoice_pdf(draft, ISSUER))
    assert "Für ??" in text


def test_many_lines_take_several_pages_with_the_heading_on_each(month: Month) -> None:
    draft = Invoice.objects.create(
        customer_id=month.customer_id, currency="usd", created_at=AFTER, updated_at=AFTER,
        period_start=month_of(AFTER).start_at, period_end=month_of(AFTER).end_at,
    )  # fmt: skip
    InvoiceLine.objects.bulk_create(
        InvoiceLine(
            invoice=draft, position=position, kind="text_tokens", description=f"model {position}",
            quantity=1, unit="token", amount_microunits=1, start_at=AFTER, end_at=AFTER,
        )
        for position in range(1, 101)
    )  # fmt: skip
    pages = texts_of(invoice_pdf(draft, ISSUER))
    assert len(pages) > 2
    for number, text in enumerate(pages, start=1):
        assert f"Page {number} of {len(pages)}" in text
    assert all("Description" in text for text in pages if "model " in text)
    assert all(f"model {position} " in " ".join(pages) for position in range(1, 101))


def test_the_csv_has_every_line_in_micro_units(month: Month) -> None:
    rows = list(csv.DictReader(io.StringIO(lines_csv(month.invoice))))
    assert [row["kind"] for row in rows] == [
        "flat", "worker_hours", "text_tokens", "image_tokens", "included", "credit",
    ]  # fmt: skip
    assert sum(int(row["amount_microunits"]) for row in rows) == month.invoice.total_microunits
    assert rows[0]["start_at"] == "2026-10-03T07:00:00+00:00"


def test_the_csv_of_a_line_has_a_row_for_each_request(month: Month) -> None:
    line = month.invoice.lines.get(kind="text_tokens")
    rows = list(csv.DictReader(io.StringIO(events_csv(expand(line)))))
    assert list(rows[0]) == list(EVENT_COLUMNS)
    assert [row["id"] for row in rows] == sorted(str(usage.id) for usage in month.usages)
    assert sum(int(row["text_tokens"]) for row in rows) == line.quantity


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1"])
def test_no_name_is_a_formula_in_the_csv(new_usage: Callable[..., Usage], name: str) -> None:
    event = UsageEvent(stored_at=AFTER, **asdict(new_usage(attachment_name=name, text_tokens=-5)))
    (row,) = csv.DictReader(io.StringIO(events_csv([event]), newline=""))
    assert (row["attachment_name"], row["text_tokens"]) == (f"'{name}", "-5")


@pytest.mark.parametrize(
    ("microunits", "text"),
    [(0, "0.000000"), (1, "0.000001"), (-1, "-0.000001"), (1_234_567_890, "1,234.567890")],
)
def test_an_amount_shows_every_micro_unit(microunits: int, text: str) -> None:
    assert amount(microunits) == text
