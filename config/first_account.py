"""Owns the two people whom `make up` makes: the first account, and the operator of the admin."""

from itertools import chain, count

from django.contrib.auth import get_user_model
from django.utils import timezone

from addon.platform.accounts import create_account, find_account
from addon.platform.authorizations import create_authorization, digest, find_authorization
from addon.platform.models import Account, AddonService, App, Authorization

OPERATOR = "operator"


def check_encryption_keys() -> None:
    """Raises InvalidToken when they are not those that the database was written with."""
    list(AddonService.objects.all())  # reading a row decrypts it


def ensure_account(email: str, api_key: str) -> str:
    """An API key of the account `email`, both made if they are not there.

    It is `api_key`, unless that was revoked or is another account's: then it is a new one. Raises
    InvalidEmail.
    """
    account = find_account(email) or create_account(email)
    if owns_key(account, api_key):
        return api_key
    is_used = Authorization.objects.filter(token_digest=digest(api_key)).exists()
    return create_authorization(account, "make up", None if is_used else api_key).token


def owns_key(account: Account, api_key: str) -> bool:
    found = find_authorization(api_key, timezone.now())
    return found is not None and found.account_id == account.id


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
