"""The operator's view of inference."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from billing.read_only_admin import ReadOnly
from inference.models import IdempotencyKey


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnly, admin.ModelAdmin[IdempotencyKey]):
    """Without the answers, which are their owners' and may be large."""

    list_display = ["created_at", "attachment_id", "key", "status", "lease_until"]
    search_fields = ["=key", "=attachment_id"]
    ordering = ["-created_at"]
    exclude = ["body", "request_sha256"]
    show_full_result_count = False  # counting a large table is slow

    def get_queryset(self, request: HttpRequest) -> QuerySet[IdempotencyKey]:
        return super().get_queryset(request).defer("body")
