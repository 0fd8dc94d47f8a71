"""What operators did in the admin, for operators to read."""

from django.contrib import admin
from django.contrib.admin.models import LogEntry

from billing.read_only_admin import ReadOnly


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnly, admin.ModelAdmin[LogEntry]):
    list_display = ["action_time", "user", "content_type", "object_repr", "action_flag"]
    list_filter = ["action_flag", "content_type"]
    list_select_related = ["user", "content_type"]
    search_fields = ["object_repr", "user__username"]
