"""The operator's view of billing. The ledger can be read and searched, never edited."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone

from billing import notifications
from billing.budgets import BudgetTerms, InvalidBudget, check_scope, check_terms, forget_alerts
from billing.credits import (
    CreditNoteTooLarge,
    InvalidCredit,
    InvoiceNotFinal,
    check_credit,
    check_credit_note,
    grant_credit,
    issue_credit_note,
)
from billing.exports import delivery
from billing.models import (
    Budget,
    BudgetAlert,
    Credit,
    CreditNote,
    Customer,
    Invoice,
    InvoiceLine,
    LimitOverride,
    Notification,
    OutboxEntry,
    Plan,
    Price,
    Reconciliation,
    Subscription,
    UsageEvent,
    UsageSum,
)
from billing.read_only_admin import ReadOnly


@admin.register(Plan)
class PlanAdmin(admin.ModelAdmin[Plan]):
    """Read-only but for the schema of its options: plans and their prices are money, and come from
    plans.toml."""

    list_display = [
        "name",
        "human_name",
        "is_default",
        "is_visible",
        "requests_per_minute",
        "tokens_per_minute",
        "model_id",
    ]
    list_filter = ["service_name", "is_visible", "is_metered"]
    ordering = ["service_name", "slug"]
    search_fields = ["service_name", "slug", "human_name"]

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> list[str]:
        fields = (field.name for field in Plan._meta.fields)
        return [name for name in fields if name != "options_schema"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(LimitOverride)
class LimitOverrideAdmin(admin.ModelAdmin[LimitOverride]):
    list_display = [
        "scope",
        "scope_id",
        "model_id",
        "requests_per_minute",
        "tokens_per_minute",
        "concurrent_requests",
        "is_shadow",
        "note",
        "updated_at",
    ]
    list_filter = ["scope", "is_shadow", "model_id"]
    search_fields = ["=scope_id", "model_id", "note"]
    ordering = ["scope", "scope_id", "model_id"]


@admin.register(Price)
class PriceAdmin(ReadOnly, admin.ModelAdmin[Price]):
    list_display = [
        "plan",
        "version",
        "active_from",
        "currency",
        "monthly_microunits",
        "worker_hour_microunits",
        "token_prices",
        "included_tokens",
    ]
    list_filter = ["plan"]
    list_select_related = ["plan"]
    ordering = ["plan", "version"]
    search_fields = ["plan__slug", "plan__service_name"]


@admin.register(Customer)
class CustomerAdmin(admin.ModelAdmin[Customer]):
    """Only what Stripe calls the customer is set by hand."""

    list_display = ["id", "email", "name", "stripe_customer_id", "created_at"]
    readonly_fields = ["id", "email", "name", "created_at"]
    search_fields = ["=id", "email", "name", "=stripe_customer_id"]
    list_filter = ["created_at"]
    ordering = ["email", "id"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnly, admin.ModelAdmin[Subscription]):
    list_display = ["resource_name", "resource_id", "customer", "plan", "start_at", "end_at"]
    list_filter = ["plan"]
    list_select_related = ["customer", "plan"]
    search_fields = ["resource_name", "=resource_id", "=customer__id", "customer__email"]
    ordering = ["-start_at"]


class InvoiceLineInline(ReadOnly, admin.TabularInline[InvoiceLine, Invoice]):
    model = InvoiceLine
    fields = [
        "position",
        "kind",
        "description",
        "resource_name",
        "quantity",
        "unit",
        "unit_price_microunits",
        "amount_microunits",
        "start_at",
        "end_at",
        "events_count",
    ]
    ordering = ["position"]
    extra = 0


@admin.register(Invoice)
class InvoiceAdmin(ReadOnly, admin.ModelAdmin[Invoice]):
    """A draft is shown as it was last made: the customer's page makes it anew."""

    list_display = [
        "number",
        "customer",
        "period_start",
        "state",
        "charges_microunits",
        "credits_microunits",
        "total_microunits",
        "currency",
    ]
    list_filter = ["state", "period_start"]
    list_select_related = ["customer"]
    inlines = [InvoiceLineInline]
    search_fields = ["=number", "=id", "=customer__id", "customer__email"]
    ordering = ["-period_start", "-number"]


class AppendOnly:
    """To be mixed into a ModelAdmin: a row is added by its form, and then never changed."""

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class CreditForm(forms.ModelForm[Credit]):
    class Meta:
        model = Credit
        fields = ["customer", "amount_microunits", "reason"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                check_credit(cleaned["amount_microunits"], cleaned["reason"])
            except InvalidCredit as error:
                raise ValidationError(str(error)) from error
        return cleaned


@admin.register(Credit)
class CreditAdmin(AppendOnly, admin.ModelAdmin[Credit]):
    form = CreditForm
    list_display = ["created_at", "customer", "amount_microunits", "currency", "reason"]
    list_select_related = ["customer"]
    raw_id_fields = ["customer"]
    list_filter = ["currency", "created_at"]
    search_fields = ["=customer__id", "customer__email", "reason"]
    ordering = ["-created_at"]

    def save_model(self, request: HttpRequest, obj: Credit, form: Any, change: bool) -> None:
        credit = grant_credit(obj.customer_id, obj.amount_microunits, obj.reason, timezone.now())
        obj.id = credit.id


class CreditNoteForm(forms.ModelForm[CreditNote]):
    class Meta:
        model = CreditNote
        fields = ["invoice", "amount_microunits", "reason"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                check_credit_note(
                    cleaned["invoice"], cleaned["amount_microunits"], cleaned["reason"]
                )
            except (InvalidCredit, InvoiceNotFinal, CreditNoteTooLarge) as error:
                raise ValidationError(str(error)) from error
        return cleaned


@admin.register(CreditNote)
class CreditNoteAdmin(AppendOnly, admin.ModelAdmin[CreditNote]):
    form = CreditNoteForm
    list_display = ["number", "invoice", "amount_microunits", "reason", "created_at"]
    list_select_related = ["invoice__customer"]
    raw_id_fields = ["invoice"]
    list_filter = ["created_at"]
    search_fields = ["=number", "=invoice__number", "reason"]
    ordering = ["-number"]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The form is checked before the customer is locked: another note may come in between."""
        try:
            return super().add_view(request, form_url, extra_context)
        except CreditNoteTooLarge as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: CreditNote, form: Any, change: bool) -> None:
        note = issue_credit_note(obj.invoice, obj.amount_microunits, obj.reason, timezone.now())
        obj.id, obj.number = note.id, note.number


@admin.register(UsageEvent)
class UsageEventAdmin(ReadOnly, admin.ModelAdmin[UsageEvent]):
    list_display = [
        "stored_at",
        "app_name",
        "attachment_name",
        "model_id",
        "inputs",
        "tokens",
        "cost_picounits",
        "outcome",
        "plan_name",
        "id",
    ]
    list_filter = ["stored_at", "outcome"]
    search_fields = [
        "=id",
        "=corrects",
        "app_name",
        "attachment_name",
        "=resource_id",
        "=attachment_id",
    ]
    ordering = ["-id"]  # by time, too, and without sorting the whole ledger
    show_full_result_count = False  # counting a large ledger is slow


@admin.register(UsageSum)
class UsageSumAdmin(ReadOnly, admin.ModelAdmin[UsageSum]):
    list_display = [
        "granularity",
        "start_at",
        "app_name",
        "attachment_name",
        "model_id",
        "requests",
        "text_tokens",
        "image_tokens",
        "cost_picounits",
    ]
    list_filter = ["granularity", "start_at"]
    search_fields = ["=customer_id", "=resource_id", "=attachment_id", "app_name"]
    ordering = ["-id"]
    show_full_result_count = False


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnly, admin.ModelAdmin[Reconciliation]):
    list_display = ["ran_at", "kind", "compared", "drift_picounits"]
    list_filter = ["kind", "ran_at"]
    search_fields = ["kind"]
    ordering = ["-ran_at"]


class BudgetForm(forms.ModelForm[Budget]):
    """The checks of billing/budgets.py, told beside the fields. The secret that there is is not
    shown, and stays where none is given."""

    class Meta:
        model = Budget
        fields = ["customer", "scope", "scope_id", *BudgetTerms.__dataclass_fields__]
        widgets = {"webhook_secret": forms.PasswordInput(attrs={"autocomplete": "new-password"})}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        wanted = {name: cleaned[name] for name in BudgetTerms.__dataclass_fields__}
        wanted["webhook_secret"] = cleaned["webhook_secret"] or self.instance.webhook_secret
        try:
            terms = check_terms(BudgetTerms(**wanted))
            scope_id = check_scope(cleaned["customer"].id, cleaned["scope"], cleaned["scope_id"])
        except InvalidBudget as error:
            raise ValidationError({error.field: str(error)}) from error
        names = {name: getattr(terms, name) for name in wanted}
        return {**cleaned, **names, "thresholds": list(terms.thresholds), "scope_id": scope_id}


@admin.register(Budget)
class BudgetAdmin(admin.ModelAdmin[Budget]):
    form = BudgetForm
    list_display = ["customer", "scope", "scope_id", "limit_microunits", "is_hard", "updated_at"]
    list_filter = ["scope", "is_hard"]
    list_select_related = ["customer"]
    raw_id_fields = ["customer"]
    search_fields = ["=customer__id", "customer__email", "scope_id"]
    ordering = ["customer", "scope", "scope_id"]

    def save_model(self, request: HttpRequest, obj: Budget, form: Any, change: bool) -> None:
        before = Budget.objects.filter(id=obj.id).first()
        super().save_model(request, obj, form, change)
        forget_alerts(obj, timezone.now())
        if obj.webhook_secret and obj.webhook_secret != (before and before.webhook_secret):
            self.message_user(
                request, f"The webhook's secret, shown this once: {obj.webhook_secret}"
            )


@admin.register(BudgetAlert)
class BudgetAlertAdmin(ReadOnly, admin.ModelAdmin[BudgetAlert]):
    list_display = [
        "created_at",
        "budget",
        "threshold",
        "spent_microunits",
        "limit_microunits",
        "not_told",
    ]
    list_filter = ["threshold", "period_start"]
    search_fields = ["=budget__id", "budget__scope_id", "budget__customer__email"]
    list_select_related = ["budget"]
    ordering = ["-created_at"]


@admin.register(Notification)
class NotificationAdmin(ReadOnly, admin.ModelAdmin[Notification]):
    list_display = [
        "created_at",
        "channel",
        "target",
        "subject",
        "attempts",
        "delivered_at",
        "next_attempt_at",
        "last_error",
    ]
    list_filter = ["channel", "delivered_at"]
    exclude = ["secret"]
    search_fields = ["=id", "target", "subject"]
    ordering = ["-created_at"]
    actions = ["send_again"]

    @admin.action(description="Send again")
    def send_again(self, request: HttpRequest, queryset: "QuerySet[Notification]") -> None:
        notifications.send_again(queryset, timezone.now())


@admin.register(OutboxEntry)
class OutboxEntryAdmin(ReadOnly, admin.ModelAdmin[OutboxEntry]):
    list_display = [
        "created_at",
        "destination",
        "event_id",
        "attempts",
        "next_attempt_at",
        "last_error",
    ]
    list_filter = ["destination", ("next_attempt_at", admin.EmptyFieldListFilter)]
    search_fields = ["=event_id"]
    ordering = ["created_at"]
    actions = ["send_again", "discard"]
    show_full_result_count = False

    @admin.action(description="Send again what is set aside")
    def send_again(self, request: HttpRequest, queryset: "QuerySet[OutboxEntry]") -> None:
        delivery.send_again(queryset, timezone.now())

    @admin.action(description="Delete those whose destination is off")
    def discard(self, request: HttpRequest, queryset: "QuerySet[OutboxEntry]") -> None:
        delivery.discard(queryset)
