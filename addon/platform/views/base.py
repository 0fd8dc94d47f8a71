"""What every route of the Platform API has in common."""

import uuid
from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse
from django.template.response import SimpleTemplateResponse
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.views import APIView

from addon.json_api import StrictJsonParser
from addon.platform import (
    addons,
    creation_ids,
    errors,
    heroku_apps,
    partner_access,
    preconditions,
    rate_limits,
)
from addon.platform.access import Permission
from addon.platform.authentication import (
    TokenAuthentication,
    account_of,
    authorization_of,
    client_address,
    partner_of,
)
from addon.platform.models import Account, Addon, AddonService, App, Authorization
from addon.platform.negotiation import Version3
from addon.platform.partner_tokens import Partner
from addon.platform.preconditions import PreconditionFailed
from addon.platform.request_ids import HEADER as REQUEST_ID
from addon.platform.schema.openapi import LinkSchema
from addon.platform.scopes import Area, require_scope

SAFE = frozenset({"GET", "HEAD"})
CHANGING = frozenset({"PATCH", "PUT", "DELETE"})
CONDITIONS = ("If-Match", "If-None-Match")


class PlatformView(APIView):
    area = Area.RESOURCES  # what a token's scopes must allow
    cost = 1  # in requests, of those that an account has
    schema = LinkSchema()
    partner_methods: frozenset[str] = frozenset()  # what a provider's token for an add-on may do
    remaining: int | None = None  # requests that the account has left, once that is known
    authentication_classes: Sequence[type[BaseAuthentication]] = [TokenAuthentication]
    content_negotiation_class: type[BaseContentNegotiation] = Version3
    parser_classes = [StrictJsonParser]

    def get_exception_handler(self) -> Any:
        return errors.handle

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method in CHANGING and any(name in request.headers for name in CONDITIONS):
            preconditions.apply_to(request, self._current(request, *args, **kwargs))

    def perform_authentication(self, request: Request) -> None:
        try:
            super().perform_authentication(request)
        except AuthenticationFailed:
            if get_authorization_header(request):
                rate_limits.count_wrong_token(client_address(request))
            raise
        if request.auth is not None:
            self.remaining = rate_limits.spend_request(_payer_id(request), self.cost)

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        if isinstance(request.auth, Partner):
            partner_access.require_allowed(request.auth, request.method or "", self.partner_methods)
        elif isinstance(request.auth, Authorization):  # else the view is not for accounts
            require_scope(authorization_of(request).scope, self.area, request.method or "")

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Any:  # a 304 and a file are no Response
        answer: Any = super().finalize_response(request, response, *args, **kwargs)
        if request.method in SAFE and answer.status_code in (200, 206):
            _render(answer)
            preconditions.note_version(answer)
            try:
                answer = preconditions.apply_to(request, answer)
            except PreconditionFailed as failed:
                answer = super().finalize_response(request, self.handle_exception(failed))
        if self.remaining is not None:
            answer["RateLimit-Remaining"] = str(self.remaining)
        return answer

    def _current(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        """What a GET of the same path would answer."""
        view: Any = self
        if not hasattr(view, "get"):
            raise PreconditionFailed
        answer = super().finalize_response(request, view.get(request, *args, **kwargs))
        _render(answer)
        preconditions.note_version(answer)
        return answer


def _payer_id(request: Request) -> uuid.UUID:
    """Whose requests are counted: an account's, or those of a provider about one add-on."""
    match request.auth:
        case Partner(addon=addon):
            return addon.id
        case AddonService(id=service_id):
            return service_id
        case _:
            return account_of(request).id


def viewer_of(request: Request) -> Account:
    """By whose eyes an answer is made: a provider sees of its add-on what the owner does."""
    partner = partner_of(request)
    return account_of(request) if partner is None else partner.addon.app.owner


def addon_of(request: Request, identity: str) -> Addon:
    """The add-on that the path names. Raises AddonNotFound, AppNotFound, MultipleMatches."""
    partner = partner_of(request)
    if partner is not None:
        return partner_access.get_addon(partner, identity)
    return addons.get_addon(account_of(request), identity)


def _render(answer: HttpResponse) -> None:
    if isinstance(answer, SimpleTemplateResponse):
        answer.render()


def app_of(request: Request, identity: str, permission: Permission = Permission.VIEW) -> App:
    """The app that the path names. Raises AppNotFound, Forbidden."""
    partner = partner_of(request)
    if partner is not None:  # whom only reading views let in
        return partner_access.get_app(partner, identity)
    return heroku_apps.get_app(account_of(request), identity, permission)


def creation_id(request: Request, within: uuid.UUID | None = None) -> uuid.UUID:
    """The id for what this request creates; sent again by its client, it finds what it made.

    `within` is the id of the app or team that the path names: meanwhile another may have its name.
    """
    return creation_ids.creation_id(
        _payer_id(request),
        request.headers.get(REQUEST_ID, ""),
        request.method or "",
        f"{request.path} {within}",
        request.data,
    )
