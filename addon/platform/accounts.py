"""Accounts: the people who own apps."""

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from addon.platform.models import Account


class AccountExists(Exception):
    pass


class InvalidEmail(Exception):
    pass


def create_account(email: str, name: str = "") -> Account:
    """Raises InvalidEmail, and AccountExists when the email is in use, in whatever case."""
    try:
        validate_email(email)
    except ValidationError:
        raise InvalidEmail(f"{email!r} is not an email address") from None
    try:
        with transaction.atomic():
            return Account.objects.create(email=email, name=name)
    except IntegrityError:
        raise AccountExists(f"There is an account of {email} already") from None


def find_account(email: str) -> Account | None:
    return Account.objects.filter(email__iexact=email).first()
