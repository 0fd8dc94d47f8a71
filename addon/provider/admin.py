"""The provider's tables in the admin: no secret is shown, and nothing edited by hand.

The platform's requests make and end rows; a hand edit would make both sides differ. Keys can be
replaced, which tells the platform.
"""

from datetime import timedelta

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from addon.provider import key_rotation
from addon.provider.key_rotation import REFUSALS
from addon.provider.models import Attachment, Callback, Credential, Grant, Resource
from billing.read_only_admin import ReadOnly


class Rotating:
    """To be mixed into a ModelAdmin: the keys of its rows can be replaced."""

    def has_rotate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("provider.change_credential")


@admin.register(Resource)
class ResourceAdmin(Rotating, ReadOnly, admin.ModelAdmin[Resource]):
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
    actions = ["rotate_keys"]

    @admin.action(description="Replace the keys", permissions=["rotate"])
    def rotate_keys(self, request: HttpRequest, queryset: QuerySet[Resource]) -> None:
        for resource in queryset:
            try:
                rotated = key_rotation.rotate_resource(resource.id, _overlap(), timezone.now())
            except REFUSALS as error:
                self.message_user(request, f"{resource}: {error}", messages.ERROR)
            else:
                self.message_user(request, "; ".join(map(str, rotated)))


@admin.register(Attachment)
class AttachmentAdmin(Rotating, ReadOnly, admin.ModelAdmin[Attachment]):
    list_display = ["name", "app_name", "resource", "shares_key", "created_at", "detached_at"]
    list_filter = ["shares_key", ("detached_at", admin.EmptyFieldListFilter)]
    list_select_related = ["resource"]
    ordering = ["-created_at"]
    search_fields = ["id", "name", "app_name", "resource__id", "resource__name"]
    actions = ["rotate_keys"]

    @admin.action(description="Replace the key", permissions=["rotate"])
    def rotate_keys(self, request: HttpRequest, queryset: QuerySet[Attachment]) -> None:
        for row in queryset:
            try:
                rotated = key_rotation.rotate_attachment(
                    row.resource_id, row.id, _overlap(), timezone.now()
                )
                self.message_user(request, str(rotated))
            except REFUSALS as error:
                self.message_user(request, f"{row}: {error}", messages.ERROR)


@admin.register(Credential)
class CredentialAdmin(ReadOnly, admin.ModelAdmin[Credential]):
    list_display = ["hint", "attachment", "created_at", "expires_at", "revoked_at"]
    list_filter = [
        ("expires_at", admin.EmptyFieldListFilter),
        ("revoked_at", admin.EmptyFieldListFilter),
    ]
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


def _overlap() -> timedelta:
    return timedelta(seconds=settings.KEY_OVERLAP_S)
