"""The operator's view of billing. The ledger can be read and searched, never edited."""

from django.contrib import admin

from billing.models import Plan, UsageEvent
from billing.read_only_admin import ReadOnly


@admin.register(Plan)
class PlanAdmin(ReadOnly, admin.ModelAdmin[Plan]):
    """Read-only: plans and their prices are money, and come from plans.toml."""

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


@admin.register(UsageEvent)
class UsageEventAdmin(ReadOnly, admin.ModelAdmin[UsageEvent]):
    list_display = [
        "stored_at",
        "app_name",
        "attachment_name",
        "model_id",
        "inputs",
        "tokens",
        "plan_name",
        "request_id",
    ]
    list_filter = ["stored_at", "model_id", "plan_name"]
    search_fields = ["=request_id", "app_name", "attachment_name", "=resource_id", "=attachment_id"]
    ordering = ["-stored_at"]
    readonly_fields = ["stored_at"]
    date_hierarchy = "stored_at"
    show_full_result_count = False  # counting a large ledger is slow
