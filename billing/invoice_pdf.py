"""An invoice as a person reads it: PDF.

Half a second of imports: whoever draws one imports this module then, and no process at its start.
"""

from datetime import datetime, timedelta

from fpdf import FPDF
from fpdf.enums import TableBordersLayout, TextEmphasis
from fpdf.fonts import FontFace

from billing.invoice_documents import amount
from billing.models import Invoice, InvoiceLine

# What a price is for, by the kind of line.
PRICED_BY = {
    InvoiceLine.Kind.FLAT: "month",
    InvoiceLine.Kind.WORKER_HOURS: "worker-hour",
    InvoiceLine.Kind.TEXT_TOKENS: "1M tokens",
    InvoiceLine.Kind.IMAGE_TOKENS: "1M tokens",
}
_GREY = (110, 110, 120)
_ACCENT = (52, 73, 110)
_STRIPE = (245, 246, 249)
_MARGIN_MM = 18.0


def invoice_pdf(invoice: Invoice, issuer: str) -> bytes:
    """A4 pages. `issuer` is the address at which the invoice can be checked."""
    page = _Page(invoice, issuer)
    page.add_page()
    page.write_title()
    page.write_parties()
    page.write_lines()
    page.write_totals()
    page.write_notes()
    return bytes(page.output())


class _Page(FPDF):
    """The parts of an invoice, from top to bottom."""

    def __init__(self, invoice: Invoice, issuer: str) -> None:
        super().__init__(format="A4")
        self.invoice, self.issuer = invoice, issuer
        self.currency = invoice.currency.upper()
        is_draft = invoice.state == Invoice.State.DRAFT
        self.heading = "Draft invoice" if is_draft else f"Invoice {invoice.number}"
        self.set_margin(_MARGIN_MM)
        self.c_margin = 0.0  # text begins where the table does
        self.set_auto_page_break(auto=True, margin=22)
        self.set_title(self.heading)
        self.set_author(issuer)
        # The same invoice is the same document, whenever it is downloaded.
        self.set_creation_date(invoice.finalized_at or invoice.updated_at)

    def footer(self) -> None:
        self.set_y(-15)
        self._font(8, _GREY)
        self.cell(self.epw / 2, 5, f"{self.heading} \u00b7 {self.issuer}")
        self.cell(self.epw / 2, 5, f"Page {self.page_no()} of {{nb}}", align="R")

    def write_title(self) -> None:
        self._font(22, _ACCENT, bold=True)
        self.cell(self.epw, 12, self.heading, new_x="LMARGIN", new_y="NEXT")
        self._font(10, _GREY)
        self.cell(self.epw, 6, self._dates(), new_x="LMARGIN", new_y="NEXT")
        self.ln(6)

    def _dates(self) -> str:
        last_day = self.invoice.period_end - timedelta(seconds=1)
        period = f"{_day(self.invoice.period_start)} to {_day(last_day)} (UTC)"
        if self.invoice.finalized_at is None:
            return f"For {period}. Not final: what is used until the period ends will be added."
        return f"For {period}, issued on {_day(self.invoice.finalized_at)}"

    def write_parties(self) -> None:
        named = (self.invoice.customer_name, self.invoice.customer_email)
        # The font of the pages has the letters of Western Europe only; the id names everybody.
        names = [text for text in named if _is_printable(text)]
        top = self.get_y()
        for x, label, texts in (
            (self.l_margin, "From", [self.issuer]),
            (self.l_margin + self.epw / 2, "To", [*names, f"Customer {self.invoice.customer_id}"]),
        ):
            self.set_xy(x, top)
            self._font(8, _GREY, bold=True)
            self.cell(self.epw / 2, 5, label.upper(), new_x="LEFT", new_y="NEXT")
            self._font(10)
            self.multi_cell(self.epw / 2, 5, "\n".join(texts), new_x="LEFT", new_y="NEXT")
        self.ln(8)

    def write_lines(self) -> None:
        self._font(9)
        head = FontFace(emphasis=TextEmphasis.B, color=(255, 255, 255), fill_color=_ACCENT)
        with self.table(
            col_widths=(76, 28, 42, 28),
            text_align=("LEFT", "RIGHT", "RIGHT", "RIGHT"),
            borders_layout=TableBordersLayout.NONE,
            cell_fill_color=_STRIPE,
            cell_fill_mode="EVEN_ROWS",
            headings_style=head,
            line_height=5,
            padding=1.5,
        ) as table:
            table.row(("Description", "Quantity", "Price", f"Amount ({self.currency})"))
            for line in self.invoice.lines.order_by("position"):
                table.row((_description(line), _quantity(line), _price(line), _amount(line)))
        self.ln(5)

    def write_totals(self) -> None:
        totals = [("Charges", self.invoice.charges_microunits)]
        if self.invoice.credits_microunits:
            totals.append(("Credits", -self.invoice.credits_microunits))
        for label, microunits in totals:
            self._write_total(label, microunits)
        self.set_draw_color(*_ACCENT)
        self.line(
            self.l_margin + self.epw / 2, self.get_y(), self.l_margin + self.epw, self.get_y()
        )
        self._write_total(f"Total ({self.currency})", self.invoice.total_microunits, bold=True)
        self.ln(8)

    def _write_total(self, label: str, microunits: int, *, bold: bool = False) -> None:
        self._font(11 if bold else 10, bold=bold)
        self.set_x(self.l_margin + self.epw / 2)
        self.cell(self.epw / 4, 7, label)
        self.cell(self.epw / 4, 7, amount(microunits), align="R", new_x="LMARGIN", new_y="NEXT")

    def write_notes(self) -> None:
        self._font(8, _GREY)
        self.multi_cell(
            self.epw,
            4.5,
            "Prices of tokens are per million. What is charged by time is prorated by the second. "
            "Each line is rounded once, half to even, to a millionth of the currency.\n"
            "Every line of tokens can be expanded to its requests, and the invoice can be checked "
            f"offline: {self.issuer}/account/invoices/{self.invoice.number or self.invoice.id}"
            "/export",
            align="L",
        )

    def _font(
        self, size: int, colour: tuple[int, int, int] = (30, 30, 35), *, bold: bool = False
    ) -> None:
        self.set_font("Helvetica", "B" if bold else "", size)
        self.set_text_color(*colour)


def _is_printable(text: str) -> bool:
    try:
        return bool(text.encode("latin-1"))
    except UnicodeEncodeError:
        return False


def _day(moment: datetime) -> str:
    return f"{moment:%-d %B %Y}"


def _description(line: InvoiceLine) -> str:
    """What it is, for which resource, and from when to when if that is not the whole period."""
    parts = [line.resource_name] if line.resource_name else []
    if line.unit == "second":
        parts.append(f"{line.start_at:%-d %b %H:%M:%S} to {line.end_at:%-d %b %H:%M:%S}")
    text = "\n".join([line.description, *parts])
    return text.encode("latin-1", "replace").decode("latin-1")  # credits are named by people


def _quantity(line: InvoiceLine) -> str:
    if line.unit == "second":
        return f"{line.quantity / 3600:,.2f} h"
    return f"{line.quantity:,} {line.unit}s" if line.unit else ""


def _price(line: InvoiceLine) -> str:
    priced_by = PRICED_BY.get(InvoiceLine.Kind(line.kind))
    return f"{amount(line.unit_price_microunits)} / {priced_by}" if priced_by else ""


def _amount(line: InvoiceLine) -> str:
    return amount(line.amount_microunits)
