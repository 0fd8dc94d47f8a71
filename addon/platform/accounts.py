"""Accounts: the people who own apps."""

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from addon.json_api import find_uuid, is_storable
from addon.platform.models import Account
from billing.subscriptions import rename_customer

# By this domain the CLI knows that an app's owner is a team: nobody's address may be there.
TEAM_DOMAIN = "herokumanager.com"


class AccountExists(Exception):
    pass


class InvalidEmail(Exception):
    pass


class UserNotFound(Exception):
    """There is no account of that person here."""

    def __init__(self, identity: str) -> None:
        super().__init__(
            f"Couldn't find that user: {identity[:254]} has no account here. An operator makes one "
            "with ./manage.py create_account EMAIL"
        )


def create_account(email: str, name: str = "") -> Account:
    """Raises InvalidEmail, and AccountExists when the email is in use, in whatever case."""
    try:
        validate_email(email)
    except ValidationError:
        raise InvalidEmail(f"{email!r} is not an email address") from None
    if not is_person(email):
        raise InvalidEmail(f"{email!r} could only be a team: choose an address elsewhere")
    try:
        with transaction.atomic():
            return Account.objects.create(email=email, name=name)
    except IntegrityError:
        raise AccountExists(f"There is an account of {email} already") from None


def rename_account(account: Account, name: str) -> None:
    """Its next invoice has the new name too."""
    account.name = name
    account.save(update_fields=["name", "updated_at"])
    rename_customer(account.id, email=account.email, name=name)


def is_person(email: str) -> bool:
    """Whether the account of this address is a person's, and not one that a team pays by."""
    return not email.lower().endswith(f"@{TEAM_DOMAIN}")


def find_account(email: str) -> Account | None:
    """A person's account; nobody logs in as a team."""
    return _people().filter(email__iexact=email).first()


def get_account(identity: str) -> Account:
    """A person's account, by id or email. Raises UserNotFound."""
    account_id = find_uuid(identity)
    found = None
    if account_id is not None:
        found = _people().filter(id=account_id).first()
    elif is_storable(identity):
        found = find_account(identity)
    if found is None:
        raise UserNotFound(identity)
    return found


def _people() -> QuerySet[Account]:
    return Account.objects.exclude(email__iendswith=f"@{TEAM_DOMAIN}")
