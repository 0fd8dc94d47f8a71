"""The provider's tables in the admin: no secret is shown, and nothing edited by hand.

The platform's requests make and end rows; a hand edit would make both sides differ.
"""

from django.contrib import admin

from addon.provider.models import Attachment, Callback, Credential, Grant, Resource
from billing.read_only_admin import ReadOnly


@admin.register(Resource)
class ResourceAdmin(ReadOnly, admin.ModelAdmin[Resource]):
    list_display = [
        "id", "name", "plan_slug", "region", "created_at", "pending", "deprovisioned_at"
    ]  # fmt: skip
    list_filter = [
        "plan_slug",
        "region",
        "pending",
        ("deprovisioned_at", admin.EmptyFieldListFilter),
    ]
    ordering = ["-created_at"]
    search_fields = ["id", "name", "attachments__app_name"]
    exclude = ["log_input_url", "log_drain_token"]


@admin.register(Attachment)
class AttachmentAdmin(ReadOnly, admin.ModelAdmin[Attachment]):
    list_display = ["name", "app_name", "resource", "created_at", "detached_at"]
    list_filter = [("detached_at", admin.EmptyFieldListFilter)]
    list_select_related = ["resource"]
    ordering = ["-created_at"]
    search_fields = ["id", "name", "app_name", "resource__id", "resource__name"]


@admin.register(Credential)
class CredentialAdmin(ReadOnly, admin.ModelAdmin[Credential]):
    list_display = ["hint", "attachment", "created_at", "revoked_at"]
    list_filter = [("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["attachment"]
    ordering = ["-created_at"]
    search_fields = ["hint", "attachment__name", "attachment__app_name"]
    exclude = ["key", "digest"]


@admin.register(Callback)
class CallbackAdmin(ReadOnly, admin.ModelAdmin[Callback]):
    list_display = ["id", "kind", "resource", "attachment", "created_at", "ended_at", "outcome"]
    list_filter = ["kind", "outcome", ("ended_at", admin.EmptyFieldListFilter)]
    list_select_related = ["resource", "attachment"]
    ordering = ["-id"]
    search_fields = ["resource__id", "resource__name"]


@admin.register(Grant)
class GrantAdmin(ReadOnly, admin.ModelAdmin[Grant]):
    list_display = ["resource", "created_at", "access_expires_at"]
    list_filter = [("access_expires_at", admin.EmptyFieldListFilter)]
    list_select_related = ["resource"]
    ordering = ["-created_at"]
    search_fields = ["resource__id", "resource__name"]
    exclude = ["code", "access_token", "refresh_token"]
