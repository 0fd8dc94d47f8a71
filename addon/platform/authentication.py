"""Who calls the Platform API: an access token as Bearer, or as the password of Basic."""

import base64
import binascii
from typing import cast

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from addon.platform.authorizations import find_authorization
from addon.platform.models import Account, Authorization


class TokenAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[None, Authorization]:
        token = _token(get_authorization_header(request))
        authorization = find_authorization(token, timezone.now()) if token else None
        if authorization is None:
            raise AuthenticationFailed
        return None, authorization

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="Platform API"'


def account_of(request: Request) -> Account:
    """The account whose token authenticated `request`."""
    authorization = cast(Authorization, request.auth)
    return authorization.account


def _token(header: bytes) -> str:
    scheme, _, credentials = header.partition(b" ")
    match scheme.lower():
        case b"bearer":
            return credentials.strip().decode("latin-1")
        case b"basic":
            return _password(credentials.strip())
        case _:
            return ""


def _password(encoded: bytes) -> str:
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return decoded.partition(b":")[2].decode("latin-1")
