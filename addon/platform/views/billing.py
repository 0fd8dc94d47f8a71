"""Invoices and budgets: the caller's own, or of a team that the caller is an admin of."""

from django.conf import settings
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.json_api import AlwaysJson, find_uuid
from addon.platform import (
    account_invoices,
    attachment_lists,
    billing_bodies,
    heroku_apps,
    ranges,
    teams,
)
from addon.platform.attachments import AttachmentNotFound
from addon.platform.authentication import account_of
from addon.platform.billing_serializers import (
    budget_json,
    events_json,
    invoice_json,
    line_json,
    team_invoice_json,
)
from addon.platform.heroku_apps import AppNotFound
from addon.platform.models import Account, App, Attachment
from addon.platform.views.base import PlatformView
from billing import budgets
from billing.budgets import UnknownBudget
from billing.invoice_documents import events_csv, lines_csv
from billing.invoice_export import export_invoice, public_key
from billing.invoices import list_invoices
from billing.models import Budget, Invoice, InvoiceLine

CSV = "text/csv; charset=utf-8"


class InvoicesView(PlatformView):
    def get(self, request: Request, team: str | None = None) -> Response:
        found = list_invoices(_payer(request, team).id, timezone.now())
        rows = [_invoice_json(invoice, team) for invoice in found]
        return ranges.answer_short(request, rows, sortable=("id",))


class InvoiceView(PlatformView):
    def get(self, request: Request, invoice: str, team: str | None = None) -> Response:
        return Response(_invoice_json(_invoice(request, invoice, team), team))


class FileView(PlatformView):
    content_negotiation_class = AlwaysJson  # asked for as whatever the file is


class InvoicePdfView(FileView):
    def get(self, request: Request, invoice: str, team: str | None = None) -> HttpResponse:
        from billing.invoice_pdf import invoice_pdf  # half a second, which no start should take

        found = _invoice(request, invoice, team)
        return _file(invoice_pdf(found, settings.PUBLIC_URL), "application/pdf", found, ".pdf")


class InvoiceCsvView(FileView):
    def get(self, request: Request, invoice: str, team: str | None = None) -> HttpResponse:
        found = _invoice(request, invoice, team)
        return _file(lines_csv(found), CSV, found, ".csv")


class InvoiceExportView(PlatformView):
    def get(self, request: Request, invoice: str, team: str | None = None) -> Response:
        return Response(export_invoice(_invoice(request, invoice, team), settings.PUBLIC_URL))


class InvoiceLinesView(PlatformView):
    def get(self, request: Request, invoice: str, team: str | None = None) -> Response:
        return ranges.answer(
            request,
            InvoiceLine.objects.filter(invoice=_invoice(request, invoice, team)),
            sortable={"position": "position"},
            unique=("position",),
            default="position",
            to_json=lambda page: [line_json(line) for line in page],
        )


class InvoiceLineEventsView(PlatformView):
    """The requests behind a line of tokens, a page at a time."""

    def get(self, request: Request, invoice: str, line: str, team: str | None = None) -> Response:
        after, limit = billing_bodies.read_page(request, billing_bodies.PAGE_DEFAULT)
        page = account_invoices.read_events(_line(request, invoice, line, team), after, limit)
        return Response(events_json(page))


class InvoiceLineEventsCsvView(FileView):
    def get(
        self, request: Request, invoice: str, line: str, team: str | None = None
    ) -> HttpResponse:
        after, limit = billing_bodies.read_page(request, billing_bodies.PAGE_MAX)
        found = _line(request, invoice, line, team)
        page = account_invoices.read_events(found, after, limit)
        ending = f"-line-{found.position}.csv"
        answer = _file(events_csv(page.events), CSV, found.invoice, ending)
        if page.next is not None:
            path = f"{request.path}?after={page.next}&limit={limit}"
            answer["Link"] = f'<{settings.PUBLIC_URL}{path}>; rel="next"'
        return answer


class InvoiceSigningKeyView(PlatformView):
    authentication_classes = []  # whoever holds an export may check it

    def get(self, request: Request) -> Response:
        return Response(public_key())


def _payer(request: Request, team: str | None) -> Account:
    """Raises TeamNotFound, TeamForbidden."""
    account = account_of(request)
    return account if team is None else teams.get_payer(account, team)


def _invoice_json(invoice: Invoice, team: str | None) -> dict[str, object]:
    return invoice_json(invoice) if team is None else team_invoice_json(invoice)


def _invoice(request: Request, identity: str, team: str | None) -> Invoice:
    return account_invoices.get_invoice(_payer(request, team), identity, timezone.now())


def _line(request: Request, invoice: str, position: str, team: str | None) -> InvoiceLine:
    return account_invoices.get_line(_invoice(request, invoice, team), position)


def _file(content: bytes | str, content_type: str, invoice: Invoice, ending: str) -> HttpResponse:
    name = f"invoice-{invoice.number or f'draft-{invoice.period_start:%Y-%m}'}"
    headers = {"Content-Disposition": f'attachment; filename="{name}{ending}"'}
    return HttpResponse(content, content_type=content_type, headers=headers)


class BudgetsView(PlatformView):
    def get(self, request: Request, team: str | None = None) -> Response:
        now = timezone.now()
        found = budgets.list_budgets(_payer(request, team).id)
        rows = [budget_json(each, budgets.read_spent(each, now)) for each in found]
        return ranges.answer_short(request, rows, sortable=("id",))

    def post(self, request: Request, team: str | None = None) -> Response:
        payer = _payer(request, team)
        scope, scope_id = billing_bodies.read_budget_scope(request.data)
        terms = billing_bodies.read_budget_terms(request.data)
        if scope == Budget.Scope.APP:
            scope_id = _paid_app(payer, scope_id).name
        elif scope == Budget.Scope.ATTACHMENT:
            scope_id = str(_paid_attachment(payer, scope_id).id)
        budget = budgets.create_budget(payer.id, scope=scope, scope_id=scope_id, terms=terms)
        return Response(_with_secret(budget), status=201)


class BudgetView(PlatformView):
    def get(self, request: Request, budget: str, team: str | None = None) -> Response:
        found = _budget(_payer(request, team), budget)
        return Response(budget_json(found, budgets.read_spent(found, timezone.now())))

    def patch(self, request: Request, budget: str, team: str | None = None) -> Response:
        payer, now = _payer(request, team), timezone.now()
        before, changes = _budget(payer, budget), billing_bodies.read_budget_changes(request.data)
        changed = budgets.update_budget(payer.id, before.id, changes, now)
        if changed.webhook_secret != before.webhook_secret:
            return Response(_with_secret(changed))
        return Response(budget_json(changed, budgets.read_spent(changed, now)))

    def delete(self, request: Request, budget: str, team: str | None = None) -> Response:
        payer, now = _payer(request, team), timezone.now()
        found = _budget(payer, budget)
        answer = budget_json(found, budgets.read_spent(found, now))
        budgets.delete_budget(payer.id, found.id)
        return Response(answer)


def _paid_app(payer: Account, identity: str) -> App:
    """Others that `payer` may see are paid for by their owners. Raises AppNotFound."""
    app = heroku_apps.get_app(payer, identity)
    if app.owner_id != payer.id:
        raise AppNotFound
    return app


def _paid_attachment(payer: Account, identity: str) -> Attachment:
    """Of an add-on that is paid for by another it is not found. Raises AttachmentNotFound."""
    attachment = attachment_lists.get_attachment(payer, identity)
    if attachment.addon.app.owner_id != payer.id:
        raise AttachmentNotFound
    return attachment


def _budget(payer: Account, identity: str) -> Budget:
    """Raises UnknownBudget."""
    budget_id = find_uuid(identity)
    for budget in budgets.list_budgets(payer.id):
        if budget.id == budget_id:
            return budget
    raise UnknownBudget("Couldn't find that budget.")


def _with_secret(budget: Budget) -> dict[str, object]:
    """This once: later answers leave the webhook's secret out."""
    answer = budget_json(budget, budgets.read_spent(budget, timezone.now()))
    return {**answer, "webhook_secret": budget.webhook_secret or None}
