"""The platform's tables in the admin.

A row that the state machine owns is read-only: a hand edit would leave the provider and the apps
behind. No secret is shown.
"""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from addon.platform.manifest_form import ManifestForm
from addon.platform.models import (
    Account,
    Addon,
    AddonService,
    App,
    Attachment,
    Authorization,
    Collaborator,
    ConfigVar,
    Notification,
    PartnerGrant,
    PartnerToken,
    Release,
    Team,
    TeamMember,
    Webhook,
    WebhookDelivery,
    WebhookEvent,
)
from billing.read_only_admin import ReadOnly


@admin.register(Account)
class AccountAdmin(admin.ModelAdmin[Account]):
    list_display = ["email", "name", "created_at", "last_login"]
    list_filter = ["created_at"]
    search_fields = ["email", "name"]
    exclude = ["password"]  # `manage.py set_password` hashes one
    readonly_fields = ["created_at", "last_login"]
    ordering = ["email"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # `manage.py create_account` makes one together with its key

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False  # it owns apps, and releases name it


@admin.register(Team)
class TeamAdmin(ReadOnly, admin.ModelAdmin[Team]):
    """Managed by its admins, with the CLI; made by `manage.py create_team`, too."""

    list_display = ["name", "account", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["account"]
    ordering = ["name"]
    search_fields = ["id", "name"]


@admin.register(TeamMember)
class TeamMemberAdmin(ReadOnly, admin.ModelAdmin[TeamMember]):
    list_display = ["account", "team", "role", "created_at"]
    list_filter = ["role"]
    list_select_related = ["account", "team"]
    ordering = ["team__name", "created_at"]
    search_fields = ["team__name", "account__email"]


@admin.register(Authorization)
class AuthorizationAdmin(admin.ModelAdmin[Authorization]):
    """To be revoked or to expire by hand; made by `authorizations.create_authorization` only."""

    list_display = ["description", "account", "scope", "created_at", "expires_at", "revoked_at"]
    list_filter = [("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["account"]
    ordering = ["-created_at"]
    search_fields = ["description", "account__email"]
    exclude = ["token_digest"]
    readonly_fields = ["account", "scope", "token_hint"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Notification)
class NotificationAdmin(ReadOnly, admin.ModelAdmin[Notification]):
    list_display = ["title", "account", "app", "is_read", "created_at"]
    list_filter = ["is_read"]
    list_select_related = ["account", "app"]
    ordering = ["-created_at"]
    search_fields = ["title", "account__email"]


@admin.register(App)
class AppAdmin(ReadOnly, admin.ModelAdmin[App]):
    list_display = ["name", "owner", "region", "created_at", "released_at", "destroyed_at"]
    list_filter = ["region", ("destroyed_at", admin.EmptyFieldListFilter)]
    list_select_related = ["owner"]
    ordering = ["name"]
    search_fields = ["id", "name", "owner__email"]


@admin.register(Collaborator)
class CollaboratorAdmin(ReadOnly, admin.ModelAdmin[Collaborator]):
    list_display = ["account", "app", "permissions", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["account", "app"]
    ordering = ["app__name", "created_at"]
    search_fields = ["app__name", "account__email"]


@admin.register(Release)
class ReleaseAdmin(ReadOnly, admin.ModelAdmin[Release]):
    list_display = ["app", "version", "description", "actor", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["app", "account", "service"]
    ordering = ["-created_at"]
    search_fields = ["app__name", "description"]
    exclude = ["config_vars"]


@admin.register(ConfigVar)
class ConfigVarAdmin(ReadOnly, admin.ModelAdmin[ConfigVar]):
    list_display = ["name", "app", "attachment"]
    list_filter = [("attachment", admin.EmptyFieldListFilter)]
    list_select_related = ["app", "attachment__app"]
    ordering = ["app__name", "name"]
    search_fields = ["name", "app__name"]
    exclude = ["value"]


@admin.register(AddonService)
class AddonServiceAdmin(ReadOnly, admin.ModelAdmin[AddonService]):
    """Added, and changed, by a manifest only, so that a wrong one is refused."""

    list_display = ["name", "human_name", "base_url", "attachment_credentials", "state"]
    list_filter = ["state", "attachment_credentials"]
    ordering = ["name"]
    search_fields = ["name", "human_name"]
    exclude = ["password", "sso_salt", "oauth_client_secret"]

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = ManifestForm(request.POST or None, request.FILES or None)
        registered = form.register(timezone.now()) if form.is_valid() else None
        if registered is not None:
            self.log_change(request, registered.service, "registered by its manifest")
        context = {
            **self.admin_site.each_context(request),
            "title": "Register an add-on by its manifest",
            "opts": self.opts,
            "form": form,
            "registered": registered,
        }
        # The client secret is in this answer only: no redirect, and no message in a cookie.
        return TemplateResponse(request, "platform/register_addon.html", context)


@admin.register(PartnerGrant)
class PartnerGrantAdmin(ReadOnly, admin.ModelAdmin[PartnerGrant]):
    list_display = ["addon", "created_at", "expires_at", "exchanged_at"]
    list_filter = [("exchanged_at", admin.EmptyFieldListFilter)]
    list_select_related = ["addon"]
    ordering = ["-created_at"]
    search_fields = ["addon__id", "addon__name"]
    exclude = ["code_digest", "refresh_digest"]


@admin.register(PartnerToken)
class PartnerTokenAdmin(ReadOnly, admin.ModelAdmin[PartnerToken]):
    list_display = ["grant", "created_at", "expires_at"]
    list_filter = ["expires_at"]
    list_select_related = ["grant__addon"]
    ordering = ["-created_at"]
    search_fields = ["grant__addon__id", "grant__addon__name"]
    exclude = ["digest"]


@admin.register(Addon)
class AddonAdmin(ReadOnly, admin.ModelAdmin[Addon]):
    list_display = ["name", "app", "plan", "state", "attempts", "next_attempt_at", "last_error"]
    list_filter = ["state", "service", "plan"]
    list_select_related = ["app", "plan"]
    ordering = ["-created_at"]
    search_fields = ["id", "name", "app__name", "provider_id"]
    exclude = ["resource_config"]


@admin.register(Attachment)
class AttachmentAdmin(ReadOnly, admin.ModelAdmin[Attachment]):
    list_display = ["name", "app", "addon", "state", "attempts", "next_attempt_at"]
    list_filter = ["state"]
    list_select_related = ["app", "addon"]
    ordering = ["-created_at"]
    search_fields = ["id", "name", "app__name", "addon__name"]


@admin.register(Webhook)
class WebhookAdmin(ReadOnly, admin.ModelAdmin[Webhook]):
    list_display = ["url", "app", "addon", "include", "level", "next_attempt_at", "created_at"]
    list_filter = ["level", "created_at"]
    list_select_related = ["app", "addon"]
    ordering = ["-created_at"]
    search_fields = ["id", "url", "app__name", "addon__name"]
    exclude = ["secret", "authorization"]


@admin.register(WebhookEvent)
class WebhookEventAdmin(ReadOnly, admin.ModelAdmin[WebhookEvent]):
    list_display = ["include", "action", "app", "created_at"]
    list_filter = ["include", "action"]
    list_select_related = ["app"]
    ordering = ["-created_at"]
    search_fields = ["id", "app__name"]


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly, admin.ModelAdmin[WebhookDelivery]):
    list_display = ["event", "webhook", "status", "attempts", "next_attempt_at", "created_at"]
    list_filter = ["status", "event__include"]
    list_select_related = ["event", "webhook"]
    ordering = ["-created_at"]
    search_fields = ["id", "webhook__url", "webhook__app__name"]
