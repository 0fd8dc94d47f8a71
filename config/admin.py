"""Django's own tables, for operators to read. Sessions stay out: a session's id is a login."""

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType

from billing.read_only_admin import ReadOnly


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnly, admin.ModelAdmin[LogEntry]):
    """What operators did in the admin."""

    list_display = ["action_time", "user", "content_type", "object_repr", "action_flag"]
    list_filter = ["action_flag", "content_type"]
    list_select_related = ["user", "content_type"]
    search_fields = ["object_repr", "user__username"]


@admin.register(Permission)
class PermissionAdmin(ReadOnly, admin.ModelAdmin[Permission]):
    """What may be granted to users and groups."""

    list_display = ["name", "content_type", "codename"]
    list_filter = ["content_type__app_label"]
    list_select_related = ["content_type"]
    search_fields = ["name", "codename"]


@admin.register(ContentType)
class ContentTypeAdmin(ReadOnly, admin.ModelAdmin[ContentType]):
    """The tables that there are."""

    list_display = ["app_label", "model"]
    list_filter = ["app_label"]
    search_fields = ["app_label", "model"]
