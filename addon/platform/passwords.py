"""Passwords of accounts, hashed as Django hashes them. An account without one has only keys."""

from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from addon.json_api import is_storable
from addon.platform import login_limits
from addon.platform.accounts import find_account
from addon.platform.models import Account

MAX_CHARACTERS = 1_000


class InvalidPassword(Exception):
    """The password is not allowed; the text says why."""


class WrongPassword(Exception):
    """There is no account of that e-mail address and password."""


def set_password(account: Account, password: str) -> None:
    """Ends the account's web sessions, for they know of the old one. Raises InvalidPassword."""
    if len(password) > MAX_CHARACTERS:
        raise InvalidPassword(f"A password can have at most {MAX_CHARACTERS} characters")
    try:
        validate_password(password)
    except ValidationError as error:
        raise InvalidPassword(" ".join(error.messages)) from None
    _store(account, password)


def log_in(email: str, password: str, address: str) -> Account:
    """The account of this e-mail address and password; `address` is where they come from.

    Takes as long whether there is such an account or not. Raises WrongPassword, TooManyLogins.
    """
    account = find_account(email) if is_storable(email) else None
    # As it is stored: the database takes other letters for the same, e.g. a long s.
    login_limits.count_password(account.email if account else email, address)

    def rehash(password: str) -> None:
        if account is not None:
            _store(account, password)

    # With no hash to compare with, Django hashes something else.
    is_right = len(password) <= MAX_CHARACTERS and check_password(
        password, account.password if account else "", setter=rehash
    )
    if account is None or not is_right:
        raise WrongPassword
    login_limits.forget_passwords(account.email)
    return account


def _store(account: Account, password: str) -> None:
    account.password = make_password(password)
    account.save(update_fields=["password", "updated_at"])
