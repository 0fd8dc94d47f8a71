"""How often a password may be tried: for each account, and from each client address.

A window begins with the first attempt and ends WINDOW_S later, whatever comes meanwhile. An attempt
is counted before the password is looked at, so attempts at the same moment are all counted.
"""

import hashlib

from addon.platform.client_networks import network_of
from addon.redis_client import redis_client

WINDOW_S = 900
AN_ACCOUNT_MAX = 10
AN_ADDRESS_MAX = 60


class TooManyLogins(Exception):
    """The password is not looked at for a while; keys go on working."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            f"Too many attempts to log in. Please try again in {-(-retry_after_s // 60)} minutes"
        )
        self.retry_after_s = retry_after_s


def count_password(email: str, address: str) -> None:
    """Raises TooManyLogins."""
    count_address(address)
    _count(_account_key(email), AN_ACCOUNT_MAX)


def count_address(address: str) -> None:
    """Raises TooManyLogins."""
    _count(_address_key(address), AN_ADDRESS_MAX)


def forget_passwords(email: str) -> None:
    """To be called when the password was right. What its address has tried stays counted: whoever
    has an account could otherwise guess the passwords of all others from there."""
    redis_client().delete(_account_key(email))


def _count(key: str, maximum: int) -> None:
    with redis_client().pipeline() as pipeline:
        pipeline.set(key, 0, ex=WINDOW_S, nx=True)
        pipeline.incr(key)
        pipeline.ttl(key)
        _, attempts, rest_s = pipeline.execute()
    if attempts > maximum:
        raise TooManyLogins(max(rest_s, 1))


def _account_key(email: str) -> str:
    return f"platform:logins:account:{hashlib.sha256(email.lower().encode()).hexdigest()}"


def _address_key(address: str) -> str:
    return f"platform:logins:address:{network_of(address)}"
