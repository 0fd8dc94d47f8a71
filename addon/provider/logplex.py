"""Heroku's log input: log lines as RFC 5424 messages, each after its length in octets.

Source: https://devcenter.heroku.com/articles/add-on-provider-log-integration
"""

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from django.conf import settings

from addon.provider.log_lines import LogLine
from billing import webhooks

PRIORITY = 190  # local7, informational
HOSTNAME = "annex"
TOKEN_MAX_CHARACTERS = 48  # of an APP-NAME


class InvalidStream(Exception):
    """The URL is none of a log input: http or https, with the token as its password."""


async def post(url: str, lines: Sequence[LogLine]) -> None:
    """Send the lines at once. Raises InvalidStream, WebhookFailed; neither's text has the URL."""
    token = _token(url)
    body = b"".join(frame(line, token=token) for line in lines)
    headers = {
        "content-type": "application/logplex-1",
        "user-agent": f"{settings.ADDON_SERVICE_NAME} (Annex)",
    }
    await webhooks.post(url, headers, body)


def frame(line: LogLine, *, token: str) -> bytes:
    at = line.at.isoformat(timespec="seconds")
    process = settings.ADDON_SERVICE_NAME
    message = f"<{PRIORITY}>1 {at} {HOSTNAME} {token} {process} - - {line.text}".encode()
    return b"%d %b" % (len(message), message)


def _token(url: str) -> str:
    try:
        parts = urlsplit(url)
        token = unquote(parts.password or "")
    except ValueError:
        raise InvalidStream("its log input URL is malformed") from None
    is_name = token.isascii() and token.isprintable() and " " not in token
    if parts.scheme not in ("http", "https") or not parts.hostname or not token or not is_name:
        raise InvalidStream("its log input URL has no token, or is none of http or https")
    if len(token) > TOKEN_MAX_CHARACTERS:
        raise InvalidStream("the token of its log input URL is too long")
    return token
