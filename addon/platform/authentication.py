"""Who calls the Platform API: an access token as Bearer, or as the password of Basic."""

import base64
import binascii
from typing import cast

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from addon.platform import passwords
from addon.platform.authorizations import find_authorization
from addon.platform.models import Account, AddonService, Authorization
from addon.platform.partner_tokens import Partner, find_partner, find_service
from addon.platform.passwords import WrongPassword


class TokenAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[None, Authorization | Partner]:
        token = sent_token(request)
        partner = find_partner(token, timezone.now())
        if partner is not None:
            return None, partner
        authorization = find_authorization(token, timezone.now()) if token else None
        if authorization is None:
            raise AuthenticationFailed
        return None, authorization

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="Platform API"'


class PasswordAuthentication(TokenAuthentication):
    """Also e-mail address and password by Basic, as `heroku login -i` sends them."""

    def authenticate(self, request: Request) -> tuple[None, Authorization | Partner]:
        email, password = _basic(get_authorization_header(request))
        if "@" not in email or find_authorization(password, timezone.now()):
            return super().authenticate(request)
        try:
            account = passwords.log_in(email, password, client_address(request))
        except WrongPassword:
            raise AuthenticationFailed from None
        return None, Authorization(account=account)  # good for this request only


class ServiceAuthentication(BaseAuthentication):
    """The id and password of an add-on service's manifest by Basic, as we call its provider."""

    def authenticate(self, request: Request) -> tuple[None, AddonService]:
        service = find_service(*_basic(get_authorization_header(request)))
        if service is None:
            raise AuthenticationFailed
        return None, service

    def authenticate_header(self, request: Request) -> str:
        return 'Basic realm="Add-on service"'


def service_of(request: Request) -> AddonService:
    """The add-on service that authenticated `request`."""
    return cast(AddonService, request.auth)


def partner_of(request: Request) -> Partner | None:
    """The provider whose token for one add-on authenticated `request`, if it was one."""
    return request.auth if isinstance(request.auth, Partner) else None


def authorization_of(request: Request) -> Authorization:
    """What authenticated `request`."""
    return cast(Authorization, request.auth)


def account_of(request: Request) -> Account:
    """The account whose token authenticated `request`."""
    return authorization_of(request).account


def sent_token(request: Request) -> str:
    """The token that the client sends; "" when it sends none."""
    header = get_authorization_header(request)
    scheme, _, credentials = header.partition(b" ")
    if scheme.lower() == b"bearer":
        return credentials.strip().decode("latin-1")
    return _basic(header)[1]


def client_address(request: HttpRequest | Request) -> str:
    """Where the request comes from, as the outermost of our TRUSTED_PROXIES saw it.

    What stands further left in X-Forwarded-For the client may have written itself.
    """
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    if 0 < settings.TRUSTED_PROXIES <= len(forwarded):
        address = forwarded[-settings.TRUSTED_PROXIES].strip()
    else:
        address = ""
    return str(address or request.META.get("REMOTE_ADDR", ""))


def _basic(header: bytes) -> tuple[str, str]:
    """User and password; both empty when the header is not Basic."""
    scheme, _, credentials = header.partition(b" ")
    if scheme.lower() != b"basic":
        return "", ""
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return "", ""
    user, _, password = decoded.partition(":")
    return user, password
