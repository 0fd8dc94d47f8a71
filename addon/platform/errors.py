"""The errors of the Platform API, on one screen: exception, status, id.

The text is the exception's. The CLI prints `message` and `id`; its resolvers read `resource` of a
404.
"""

from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from addon.config_names import InvalidAlias
from addon.json_api import InvalidField, unavailable
from addon.platform.access import Forbidden
from addon.platform.account_invoices import InvoiceLineNotFound, InvoiceNotFound
from addon.platform.accounts import UserNotFound
from addon.platform.addon_services import AddonServiceNotFound, PlanNotFound, UnknownPlan
from addon.platform.addons import AddonNotFound, AddonNotReady, MultipleMatches
from addon.platform.aliases import AliasTaken, ConfirmationRequired, LastAttachment
from addon.platform.attachments import (
    AttachmentFailed,
    AttachmentNotFound,
    AttachmentRefused,
    GoneAtProvider,
    SharingNotSupported,
)
from addon.platform.authorizations import (
    AuthorizationNotFound,
    SessionNotFound,
    TooManyAuthorizations,
)
from addon.platform.browser_logins import LoginExpired
from addon.platform.collaborators import (
    AlreadyCollaborator,
    CollaboratorNotFound,
    NotACollaborator,
    NotOfATeam,
)
from addon.platform.config_vars import ConfigVarOwned, InvalidConfigVar, NotEligible
from addon.platform.credential_rotation import (
    RotationFailed,
    RotationNotSupported,
    RotationRefused,
)
from addon.platform.heroku_apps import AppHasBudget, AppNameTaken, AppNotFound, InvalidApp
from addon.platform.login_limits import TooManyLogins
from addon.platform.notifications import NotificationNotFound
from addon.platform.partner_access import PartnerForbidden, PartnerOnly
from addon.platform.partner_actions import ConfigVarTaken
from addon.platform.partner_tokens import AddonGone, InvalidClient, InvalidGrant
from addon.platform.plan_changes import PlanChangeFailed, PlanChangeRefused
from addon.platform.preconditions import PreconditionFailed
from addon.platform.provisioning import (
    AddonNameTaken,
    AlreadyInstalled,
    AttachedElsewhere,
    InvalidAddonName,
    ProvisionRefused,
)
from addon.platform.ranges import InvalidRange
from addon.platform.rate_limits import RateLimitReached
from addon.platform.regions import RegionNotOffered
from addon.platform.releases import NoSnapshot, ReleaseNotFound
from addon.platform.scopes import InsufficientScope, InvalidScope
from addon.platform.team_members import AlreadyMember, LastAdmin, MemberNotFound
from addon.platform.teams import (
    InvalidTeam,
    TeamForbidden,
    TeamHasApps,
    TeamNameTaken,
    TeamNotFound,
)
from addon.platform.transitions import ConcurrentChange
from addon.platform.webhooks import (
    AuthorizationMissing,
    TooManyWebhooks,
    WebhookDeliveryNotFound,
    WebhookEventNotFound,
    WebhookNotFound,
)
from billing.budgets import BudgetExists, InvalidBudget, UnknownBudget
from billing.invoice_export import InvoiceNotSigned, NoSigningKey


class PipelineCouplingNotFound(Exception):
    """There are no pipelines here, so no app is ever coupled to one."""


TABLE: dict[type[Exception], tuple[int, str]] = {
    exceptions.ParseError: (400, "bad_request"),
    InvalidGrant: (400, "invalid_grant"),
    InvalidClient: (401, "invalid_client"),
    exceptions.AuthenticationFailed: (401, "unauthorized"),
    exceptions.NotAuthenticated: (401, "unauthorized"),
    AttachedElsewhere: (403, "forbidden"),
    Forbidden: (403, "forbidden"),
    InsufficientScope: (403, "forbidden"),
    PartnerForbidden: (403, "forbidden"),
    PartnerOnly: (403, "forbidden"),
    TeamForbidden: (403, "forbidden"),
    AddonNotFound: (404, "not_found"),
    AddonServiceNotFound: (404, "not_found"),
    AppNotFound: (404, "not_found"),
    AttachmentNotFound: (404, "not_found"),
    AuthorizationNotFound: (404, "not_found"),
    CollaboratorNotFound: (404, "not_found"),
    InvoiceLineNotFound: (404, "not_found"),
    InvoiceNotFound: (404, "not_found"),
    MemberNotFound: (404, "not_found"),
    LoginExpired: (404, "not_found"),
    NotificationNotFound: (404, "not_found"),
    PipelineCouplingNotFound: (404, "not_found"),
    PlanNotFound: (404, "not_found"),
    ReleaseNotFound: (404, "not_found"),
    SessionNotFound: (404, "not_found"),
    TeamNotFound: (404, "not_found"),
    UnknownBudget: (404, "not_found"),
    UserNotFound: (404, "not_found"),
    WebhookDeliveryNotFound: (404, "not_found"),
    WebhookEventNotFound: (404, "not_found"),
    WebhookNotFound: (404, "not_found"),
    exceptions.MethodNotAllowed: (405, "method_not_allowed"),
    exceptions.NotAcceptable: (406, "not_acceptable"),
    ConcurrentChange: (409, "conflict"),
    AddonGone: (410, "gone"),
    PreconditionFailed: (412, "precondition_failed"),
    InvalidRange: (416, "requested_range_not_satisfiable"),
    AddonNameTaken: (422, "invalid_params"),
    AddonNotReady: (422, "invalid_params"),
    AliasTaken: (422, "invalid_params"),
    AlreadyCollaborator: (422, "invalid_params"),
    AlreadyInstalled: (422, "invalid_params"),
    AlreadyMember: (422, "invalid_params"),
    AuthorizationMissing: (422, "invalid_params"),
    AppHasBudget: (422, "invalid_params"),
    AppNameTaken: (422, "invalid_params"),
    BudgetExists: (422, "invalid_params"),
    ConfigVarOwned: (422, "invalid_params"),
    ConfigVarTaken: (422, "invalid_params"),
    InvalidAddonName: (422, "invalid_params"),
    InvalidAlias: (422, "invalid_params"),
    InvalidApp: (422, "invalid_params"),
    InvalidBudget: (422, "invalid_params"),
    InvalidConfigVar: (422, "invalid_params"),
    InvalidField: (422, "invalid_params"),
    InvalidScope: (422, "invalid_params"),
    InvalidTeam: (422, "invalid_params"),
    InvoiceNotSigned: (422, "invalid_params"),
    LastAdmin: (422, "invalid_params"),
    LastAttachment: (422, "invalid_params"),
    NotACollaborator: (422, "invalid_params"),
    NotOfATeam: (422, "invalid_params"),
    MultipleMatches: (422, "multiple_matches"),
    NoSnapshot: (422, "invalid_params"),
    NotEligible: (422, "invalid_params"),
    RegionNotOffered: (422, "invalid_params"),
    RotationNotSupported: (422, "invalid_params"),
    SharingNotSupported: (422, "invalid_params"),
    TeamHasApps: (422, "invalid_params"),
    TeamNameTaken: (422, "invalid_params"),
    TooManyWebhooks: (422, "invalid_params"),
    TooManyAuthorizations: (422, "invalid_params"),
    UnknownPlan: (422, "invalid_params"),
    ConfirmationRequired: (423, "confirmation_required"),
    RateLimitReached: (429, "rate_limit"),
    TooManyLogins: (429, "rate_limit"),
    AttachmentFailed: (503, "service_unavailable"),
    GoneAtProvider: (503, "service_unavailable"),
    NoSigningKey: (503, "service_unavailable"),
    PlanChangeFailed: (503, "service_unavailable"),
    RotationFailed: (503, "service_unavailable"),
}

# What the provider told the user carries the provider's own status.
PROVIDER_IDS = {422: "invalid_params", 503: "service_unavailable"}

REFUSED = ProvisionRefused | AttachmentRefused | PlanChangeRefused | RotationRefused

# Refusals of how a request is made, to which the page about the API is the answer.
PROTOCOL = frozenset({406, 412, 416, 429})

RESOURCES: dict[type[Exception], str] = {
    AddonNotFound: "add_on",
    AddonServiceNotFound: "addon_service",
    AppNotFound: "app",
    AttachmentNotFound: "add_on attachment",
    AuthorizationNotFound: "authorization",
    CollaboratorNotFound: "collaborator",
    InvoiceLineNotFound: "invoice_line",
    InvoiceNotFound: "invoice",
    MemberNotFound: "team_member",
    LoginExpired: "login",
    NotificationNotFound: "notification",
    PipelineCouplingNotFound: "pipeline_coupling",
    PlanNotFound: "plan",
    ReleaseNotFound: "release",
    SessionNotFound: "session",
    TeamNotFound: "team",
    UnknownBudget: "budget",
    WebhookDeliveryNotFound: "webhook_delivery",
    WebhookEventNotFound: "webhook_event",
    WebhookNotFound: "webhook",
    UserNotFound: "user",
}


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """The answer to `error`; None, and so a logged 500, for one that the table lacks."""
    if isinstance(error, REFUSED):
        status, error_id = error.status, PROVIDER_IDS[error.status]
    elif type(error) in TABLE:
        status, error_id = TABLE[type(error)]
    else:
        return unavailable(error)
    message = str(error)
    if error_id == "unauthorized":
        message = "Invalid credentials provided."
    elif status == 405:
        message = f"{error} Annex cannot do this yet: docs/platform.md lists what it can."
    body: dict[str, object] = {"id": error_id, "message": message}
    if status in PROTOCOL:
        body["url"] = f"{settings.PUBLIC_URL}/openapi/platform"
    if type(error) in RESOURCES:
        body["resource"] = RESOURCES[type(error)]
    response = Response(body, status=status)
    if isinstance(error, ConfirmationRequired):
        body["app"] = {"name": error.app_name}
        response["X-Confirmation-Required"] = error.app_name
    if isinstance(error, RateLimitReached):
        response["Retry-After"] = str(error.retry_after_s)
        response["RateLimit-Remaining"] = "0"
    if isinstance(error, TooManyLogins):
        response["Retry-After"] = str(error.retry_after_s)
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="Platform API"'
    return response


def json_bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    """For what Django refuses before any view sees it."""
    message = "The request cannot be understood."
    if isinstance(exception, DisallowedHost):
        message = "The host of the request is not one of ALLOWED_HOSTS."
    return _json_error(400, "bad_request", message)


def json_not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    """For paths that no route of ours has."""
    # Not a word of the exception: Django's lists every route.
    return _json_error(
        404, "not_found", "There is no such endpoint. Annex has what docs/platform.md lists."
    )


def json_server_error(request: HttpRequest) -> JsonResponse:
    return _json_error(500, "internal_server_error", "Something went wrong here. It was logged.")


def _json_error(status: int, error_id: str, message: str) -> JsonResponse:
    return JsonResponse({"id": error_id, "message": message}, status=status)
