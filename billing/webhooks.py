"""Webhooks: a POST to an address that a customer chose, and never into our own network.

The host's name is resolved here, and the connection goes to an address that was checked: what the
name resolves to a moment later changes nothing. Those of budgets are signed as Standard Webhooks
1.0.0 has it (https://www.standardwebhooks.com), those of apps as Heroku does.
"""

import asyncio
import secrets
import socket
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address, ip_network
from ssl import SSLContext

import httpx
from django.conf import settings
from standardwebhooks import Webhook

TIMEOUT_S = 15.0
URL_MAX_CHARACTERS = 500
PORTS = range(1, 65_536)
SECRET_PREFIX = "whsec_"  # noqa: S105 - not a secret itself
SECRET_BYTES = range(24, 65)  # what the specification asks for

# All that the internet has of IPv6; around it lie the addresses that carry an IPv4 address.
_INTERNET = ip_network("2000::/3")
# Public by their ranges, and yet not for others: IPv6 addresses that carry an IPv4 address, those
# of protocols, and the metadata service of Azure.
_NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "2001::/32",
        "2002::/16",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "168.63.129.16/32",
    )
)


class InvalidURL(Exception):
    """The message says what is wrong with it."""


class InvalidSecret(Exception):
    """The message says what a secret must be."""


class WebhookFailed(Exception):
    """The message says why: for the customer, so it holds nothing that the other side wrote."""

    status: int | None = None  # of the answer, if there was one


class NoAnswer(WebhookFailed):
    """Not in time, or not a whole one."""


class UnknownHost(WebhookFailed):
    """No name server knows the host."""


class PrivateAddress(WebhookFailed):
    """The host is in a private network, and WEBHOOK_ALLOW_PRIVATE is not set."""


class NotAccepted(WebhookFailed):
    """The answer was another than 2xx."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message or f"answered {status}, not 2xx")
        self.status = status


class WebhookGone(NotAccepted):
    """The other side answered 410: it wants no more of them."""


def new_secret() -> str:
    return SECRET_PREFIX + b64encode(secrets.token_bytes(32)).decode()


def check_secret(secret: str) -> None:
    """Raises InvalidSecret."""
    try:
        key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (Base64Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or len(key) not in SECRET_BYTES:
        raise InvalidSecret(f"must be {SECRET_PREFIX} and 24 to 64 bytes in base64")


def check_url(url: str) -> None:
    """Whether it could be posted to; asks no name server. Raises InvalidURL."""
    if len(url) > URL_MAX_CHARACTERS:
        raise InvalidURL(f"must have at most {URL_MAX_CHARACTERS} characters")
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii").encode("idna")  # as a name server is asked for it
    except (httpx.InvalidURL, UnicodeError) as error:
        raise InvalidURL("must be a URL such as https://example.com/hooks") from error
    if parsed.scheme not in ("http", "https") or not host or parsed.userinfo:
        raise InvalidURL("must be an http or https URL with a host, and without a password")
    if parsed.port is not None and parsed.port not in PORTS:
        raise InvalidURL(f"must have a port up to {PORTS[-1]}, or none")


def sign(secret: str, message_id: str, body: str, now: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks."""
    at = now.astimezone(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body),
    }


async def post(
    url: str, headers: Mapping[str, str], body: bytes, *, allow_private: bool = False
) -> int:
    """Deliver once, within TIMEOUT_S in all, JSON unless the headers say otherwise; the status of
    the answer, which is 2xx. `allow_private` is for addresses that the operator has chosen. Raises
    WebhookFailed."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            status = await _post(httpx.URL(url), headers, body, allow_private=allow_private)
    except TimeoutError as error:
        raise NoAnswer(f"no answer within {TIMEOUT_S:.0f} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        raise NoAnswer(f"no answer: {type(error).__name__}") from error
    if status == 410:
        raise WebhookGone(status, "answered 410: it wants no more")
    if not 200 <= status < 300:
        raise NotAccepted(status)
    return status


async def _post(
    url: httpx.URL, headers: Mapping[str, str], body: bytes, *, allow_private: bool
) -> int:
    """The status of the answer; its body is not read."""
    host = url.raw_host.decode("ascii")
    default_headers = {"content-type": "application/json", "user-agent": "Annex"}
    # A proxy would resolve the name once more.
    async with httpx.AsyncClient(
        timeout=TIMEOUT_S, verify=_tls_context(), trust_env=False
    ) as client:
        request = client.build_request(
            "POST",
            url.copy_with(host=await _resolve(host, url, allow_private=allow_private)),
            content=body,
            headers={**default_headers, **headers, "host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": host},
        )
        response = await client.send(request, stream=True)
        await response.aclose()
        return response.status_code


async def _resolve(host: str, url: httpx.URL, *, allow_private: bool) -> str:
    """An address of the host that may be called. Raises UnknownHost, PrivateAddress."""
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UnknownHost("its host's name is not known") from error
    addresses = [str(address[0]) for *_, address in found]
    is_anywhere = allow_private or settings.WEBHOOK_ALLOW_PRIVATE
    if not is_anywhere and not all(map(is_public, addresses)):
        raise PrivateAddress("its host is in a private network, which is not allowed here")
    return _preferred(addresses)


def _preferred(addresses: Sequence[str]) -> str:
    """IPv4 where there is one: many hosts have IPv6 addresses that they cannot reach."""
    return next((address for address in addresses if ":" not in address), addresses[0])


def is_public(address: str) -> bool:
    """Whether the address is one of the internet: none of a private network, of this machine, of
    its link (which the metadata of clouds is on), or for many."""
    ip = ip_address(address.partition("%")[0])
    if ip.version == 6 and ip not in _INTERNET:
        return False
    inside = any(ip.version == network.version and ip in network for network in _NOT_PUBLIC)
    return ip.is_global and not ip.is_multicast and not inside


@cache
def _tls_context() -> SSLContext:
    return httpx.create_ssl_context()  # reading the certificates takes tens of milliseconds
