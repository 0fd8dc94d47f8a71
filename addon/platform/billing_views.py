"""The Platform API's view of billing: usage, invoices, budgets. Translate in, one call, out."""

from django.conf import settings
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.json_api import find_uuid
from addon.platform import (
    account_invoices,
    addons,
    attachment_lists,
    billing_bodies,
    heroku_apps,
    usage,
)
from addon.platform.authentication import account_of
from addon.platform.billing_serializers import (
    app_usage_json,
    budget_json,
    events_json,
    invoice_json,
    line_json,
    team_usage_json,
)
from addon.platform.serializers import addons_json
from addon.platform.views import PlatformView
from billing import budgets
from billing.budgets import UnknownBudget
from billing.invoice_documents import events_csv, invoice_pdf, lines_csv
from billing.invoice_export import export_invoice, public_key
from billing.invoices import list_invoices
from billing.models import Budget, Invoice, InvoiceLine

CSV = "text/csv; charset=utf-8"


class AppUsageView(PlatformView):
    def get(self, request: Request, app: str) -> Response:
        return Response(_app_usage(request, app))


class TeamAddonsView(PlatformView):
    """`heroku usage:addons --team` asks for the names."""

    def get(self, request: Request, team: str) -> Response:
        account = usage.get_team(account_of(request), team)
        return Response(addons_json(addons.list_addons(account), timezone.now()))


class TeamUsageView(PlatformView):
    def get(self, request: Request, team: str) -> Response:
        account = usage.get_team(account_of(request), team)
        month = billing_bodies.read_month(request, timezone.now())
        return Response(team_usage_json(account, usage.account_usage(account, month)))


class TeamAppUsageView(PlatformView):
    def get(self, request: Request, team: str, app: str) -> Response:
        usage.get_team(account_of(request), team)
        return Response(_app_usage(request, app))


def _app_usage(request: Request, identity: str) -> dict[str, object]:
    app = heroku_apps.get_app(account_of(request), identity)
    month = billing_bodies.read_month(request, timezone.now())
    return app_usage_json(app.id, usage.app_usage(app, month))


class InvoicesView(PlatformView):
    def get(self, request: Request) -> Response:
        found = list_invoices(account_of(request).id, timezone.now())
        return Response([invoice_json(invoice) for invoice in found])


class InvoiceView(PlatformView):
    def get(self, request: Request, invoice: str) -> Response:
        return Response(invoice_json(_invoice(request, invoice)))


class InvoicePdfView(PlatformView):
    def get(self, request: Request, invoice: str) -> HttpResponse:
        found = _invoice(request, invoice)
        return _file(invoice_pdf(found, settings.PUBLIC_URL), "application/pdf", found, ".pdf")


class InvoiceCsvView(PlatformView):
    def get(self, request: Request, invoice: str) -> HttpResponse:
        found = _invoice(request, invoice)
        return _file(lines_csv(found), CSV, found, ".csv")


class InvoiceExportView(PlatformView):
    def get(self, request: Request, invoice: str) -> Response:
        return Response(export_invoice(_invoice(request, invoice), settings.PUBLIC_URL))


class InvoiceLinesView(PlatformView):
    def get(self, request: Request, invoice: str) -> Response:
        lines = _invoice(request, invoice).lines.order_by("position")
        return Response([line_json(line) for line in lines])


class InvoiceLineEventsView(PlatformView):
    """The requests behind a line of tokens, a page at a time."""

    def get(self, request: Request, invoice: str, line: str) -> Response:
        after, limit = billing_bodies.read_page(request, billing_bodies.PAGE_DEFAULT)
        page = account_invoices.read_events(_line(request, invoice, line), after, limit)
        return Response(events_json(page))


class InvoiceLineEventsCsvView(PlatformView):
    def get(self, request: Request, invoice: str, line: str) -> HttpResponse:
        after, limit = billing_bodies.read_page(request, billing_bodies.PAGE_MAX)
        found = _line(request, invoice, line)
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


def _invoice(request: Request, identity: str) -> Invoice:
    return account_invoices.get_invoice(account_of(request), identity, timezone.now())


def _line(request: Request, invoice: str, position: str) -> InvoiceLine:
    return account_invoices.get_line(_invoice(request, invoice), position)


def _file(content: bytes | str, content_type: str, invoice: Invoice, ending: str) -> HttpResponse:
    name = f"invoice-{invoice.number or f'draft-{invoice.period_start:%Y-%m}'}"
    headers = {"Content-Disposition": f'attachment; filename="{name}{ending}"'}
    return HttpResponse(content, content_type=content_type, headers=headers)


class BudgetsView(PlatformView):
    def get(self, request: Request) -> Response:
        now = timezone.now()
        found = budgets.list_budgets(account_of(request).id)
        return Response([budget_json(each, budgets.read_spent(each, now)) for each in found])

    def post(self, request: Request) -> Response:
        account = account_of(request)
        scope, scope_id = billing_bodies.read_budget_scope(request.data)
        terms = billing_bodies.read_budget_terms(request.data)
        if scope == Budget.Scope.APP:
            scope_id = heroku_apps.get_app(account, scope_id).name
        elif scope == Budget.Scope.ATTACHMENT:
            scope_id = str(attachment_lists.get_attachment(account, scope_id).id)
        budget = budgets.create_budget(account.id, scope=scope, scope_id=scope_id, terms=terms)
        return Response(_with_secret(budget), status=201)


class BudgetView(PlatformView):
    def get(self, request: Request, budget: str) -> Response:
        found = _budget(request, budget)
        return Response(budget_json(found, budgets.read_spent(found, timezone.now())))

    def patch(self, request: Request, budget: str) -> Response:
        before, changes = _budget(request, budget), billing_bodies.read_budget_changes(request.data)
        now = timezone.now()
        changed = budgets.update_budget(account_of(request).id, before.id, changes, now)
        if changed.webhook_secret != before.webhook_secret:
            return Response(_with_secret(changed))
        return Response(budget_json(changed, budgets.read_spent(changed, now)))

    def delete(self, request: Request, budget: str) -> Response:
        found, now = _budget(request, budget), timezone.now()
        answer = budget_json(found, budgets.read_spent(found, now))
        budgets.delete_budget(account_of(request).id, found.id)
        return Response(answer)


def _budget(request: Request, identity: str) -> Budget:
    """Raises UnknownBudget."""
    budget_id = find_uuid(identity)
    for budget in budgets.list_budgets(account_of(request).id):
        if budget.id == budget_id:
            return budget
    raise UnknownBudget("Couldn't find that budget.")


def _with_secret(budget: Budget) -> dict[str, object]:
    """This once: later answers leave the webhook's secret out."""
    answer = budget_json(budget, budgets.read_spent(budget, timezone.now()))
    return {**answer, "webhook_secret": budget.webhook_secret or None}
