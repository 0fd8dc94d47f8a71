"""Owns the two people whom `make up` makes: the first account, and the operator of the admin."""

from itertools import chain, count

from django.contrib.auth import get_user_model

from addon.platform.accounts import create_account, find_account
from addon.platform.authorizations import create_authorization
from addon.platform.models import Account, App, Authorization

OPERATOR = "operator"


def find_api_key(account: Account) -> str | None:
    """The account's oldest API key that is good for ever, so the same each time."""
    live = Authorization.objects.filter(account=account, revoked_at=None, expires_at=None)
    oldest = live.order_by("created_at").first()
    return None if oldest is None else oldest.access_token


def ensure_account(email: str) -> str:
    """The API key of the account `email`, both made if they are not there; the same each time.

    Raises InvalidEmail, and InvalidToken if the stored key cannot be decrypted.
    """
    account = find_account(email) or create_account(email)
    return find_api_key(account) or create_authorization(account, "make up").access_token


def ensure_operator(password: str) -> bool:
    """Make the superuser `operator`; one that is there keeps the password it has.

    Whether `password` is the one that it has.
    """
    users = get_user_model().objects
    operator = users.filter(username=OPERATOR).first()
    if operator is None:
        operator = users.create_superuser(OPERATOR, password=password)
    return operator.check_password(password)


def free_app_name(wanted: str) -> str:
    """`wanted`, or with the first number behind it that makes a name no app has."""
    taken = set(App.objects.filter(destroyed_at=None).values_list("name", flat=True))
    candidates = chain([wanted], (f"{wanted}-{number}" for number in count(2)))
    return next(name for name in candidates if name not in taken)
