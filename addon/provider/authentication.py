"""HTTP Basic: the manifest's id and password, which only the platform knows."""

import base64
import binascii
import hmac

from django.conf import settings
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request


class PlatformAuthentication(BaseAuthentication):
    """Fails a request without the right user and password, before anything else is looked at."""

    def authenticate(self, request: Request) -> tuple[None, str]:
        user, password = _credentials(get_authorization_header(request))
        # Both are compared, whatever the first comparison says: no answer is faster than another.
        is_user = hmac.compare_digest(user, settings.ADDON_SERVICE_NAME.encode())
        is_password = hmac.compare_digest(password, settings.PROVIDER_PASSWORD.encode())
        if not is_user & is_password:
            raise AuthenticationFailed("The user or the password of the add-on is wrong")
        return None, "platform"

    def authenticate_header(self, request: Request) -> str:
        return 'Basic realm="Add-on Partner API", charset="UTF-8"'


def _credentials(header: bytes) -> tuple[bytes, bytes]:
    scheme, _, encoded = header.partition(b" ")
    if scheme.lower() != b"basic":
        return b"", b""
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b"", b""
    return user, password
