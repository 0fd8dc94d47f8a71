"""A password that a command asks for: never as an argument, which other processes can read."""

import getpass
import sys

from django.core.management.base import CommandError

from addon.platform.models import Account
from addon.platform.passwords import InvalidPassword, set_password


def ask() -> str:
    """Typed twice at a terminal; else the first line of standard input. Raises CommandError."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Password (again): ") != password:
        raise CommandError("Nothing was changed: the two passwords differ")
    return password


def set_asked(account: Account, password: str) -> None:
    """Raises CommandError."""
    try:
        set_password(account, password)
    except InvalidPassword as error:
        raise CommandError(f"Nothing was changed: {error}") from None
