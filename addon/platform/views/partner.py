"""What providers call: for grants and tokens, to set config, and when an add-on is made or gone."""

from collections.abc import Iterable

from django.utils import timezone
from rest_framework.parsers import BaseParser, FormParser
from rest_framework.request import Request
from rest_framework.response import Response

from addon.json_api import StrictJsonParser, find_uuid
from addon.platform import (
    attachment_lists,
    partner_actions,
    partner_bodies,
    partner_tokens,
    rate_limits,
)
from addon.platform.addons import AddonNotFound
from addon.platform.attachments import AttachmentNotFound
from addon.platform.authentication import (
    ServiceAuthentication,
    account_of,
    client_address,
    partner_of,
    service_of,
)
from addon.platform.negotiation import Version3
from addon.platform.partner_access import PartnerOnly
from addon.platform.partner_tokens import InvalidClient, InvalidGrant, Partner
from addon.platform.scopes import Area
from addon.platform.serializers import Answer, addon_json
from addon.platform.views.base import PlatformView, addon_of

POST = frozenset({"POST"})


class FormOrJson(Version3):
    """OAuth's clients send forms, Heroku's also JSON."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        form, json = parsers
        is_form = request.content_type.startswith("application/x-www-form-urlencoded")
        return form if is_form else json


class OAuthTokenView(PlatformView):
    """Exchanges a grant's code, or a refresh token, for an access token (RFC 6749)."""

    authentication_classes = []  # a client says who it is by its secret
    content_negotiation_class = FormOrJson
    parser_classes = [FormParser, StrictJsonParser]

    def post(self, request: Request) -> Response:
        asked = partner_bodies.read_token_request(request.query_params.dict(), _data(request))
        ask = partner_tokens.refresh if asked.is_refresh else partner_tokens.exchange
        try:
            tokens = ask(asked.credential, asked.client_secret, timezone.now())
        except (InvalidGrant, InvalidClient):
            rate_limits.count_wrong_token(client_address(request))
            raise
        answer: Answer = {
            "access_token": tokens.access_token,
            "expires_in": tokens.expires_in_s,
            "refresh_token": tokens.refresh_token,
            "session_nonce": None,
            "token_type": "Bearer",
            "user_id": str(tokens.owner_id),
        }
        return Response(answer, headers={"Cache-Control": "no-store"})


def _data(request: Request) -> object:
    data = request.data
    return data.dict() if hasattr(data, "dict") else data  # of a form


class OAuthGrantView(PlatformView):
    """Another grant for an add-on, for the service whose add-on it is."""

    authentication_classes = [ServiceAuthentication]

    def get(self, request: Request, addon: str) -> Response:
        addon_id = find_uuid(addon)
        found = addon_id and partner_tokens.regrant(service_of(request), addon_id, timezone.now())
        if not found:
            raise AddonNotFound
        return Response(found.as_sent(), headers={"Cache-Control": "no-store"})


class ProvisionView(PlatformView):
    partner_methods = POST

    def post(self, request: Request, addon: str) -> Response:
        now = timezone.now()
        made = partner_actions.mark_provisioned(partner_for(request, addon), now)
        return Response(addon_json(made, made.app.owner, now))


class DeprovisionView(PlatformView):
    partner_methods = POST

    def post(self, request: Request, addon: str) -> Response:
        now = timezone.now()
        ended = partner_actions.mark_deprovisioned(partner_for(request, addon), now)
        return Response(addon_json(ended, ended.app.owner, now))


class AttachmentConfigView(PlatformView):
    """Annex's own: what one attachment has, of a service with credentials per attachment."""

    area = Area.CONFIG_VARS
    partner_methods = frozenset({"PATCH"})

    def patch(self, request: Request, attachment: str) -> Response:
        partner, attachment_id = partner_of(request), find_uuid(attachment)
        if partner is None:
            attachment_lists.get_attachment(account_of(request), attachment)
            raise PartnerOnly
        if attachment_id is None:
            raise AttachmentNotFound
        changes = partner_bodies.read_config(request.data)
        config = partner_actions.update_attachment_config(
            partner, attachment_id, changes, timezone.now()
        )
        return Response(config_rows(config))


def partner_for(request: Request, addon: str) -> Partner:
    """The provider that calls about the add-on of the path.

    Raises AddonNotFound, and PartnerOnly for an account that may see the add-on.
    """
    addon_of(request, addon)
    partner = partner_of(request)
    if partner is None:
        raise PartnerOnly
    return partner


def config_rows(config: dict[str, str]) -> list[Answer]:
    return [{"name": name, "value": value} for name, value in config.items()]
