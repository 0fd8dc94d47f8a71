"""Access tokens: issued to an account once, known afterwards by their SHA-256 only."""

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from addon.json_api import find_uuid
from addon.platform.accounts import is_person
from addon.platform.models import Account, Authorization
from addon.platform.scopes import Scope, require_scopes
from billing.compiled_queries import CompiledQuery

PREFIX = "HRKU-"
# What the CLI asks for by `heroku login -i`.
LOGIN_LASTS = timedelta(days=30)
AN_ACCOUNT_MAX = 500


class AuthorizationNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("Couldn't find that authorization.")


class SessionNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("Couldn't find that session.")


class TooManyAuthorizations(Exception):
    pass


class TeamHasNoTokens(Exception):
    """The account is a team's; its members use their own tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewAuthorization:
    """What is wished; without `expires_in_s` it does not expire."""

    description: str
    scopes: tuple[Scope, ...] = (Scope.GLOBAL,)
    expires_in_s: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Issued:
    """An authorization with its token, which nobody can read again."""

    authorization: Authorization
    token: str = field(repr=False)


def new_token() -> str:
    return f"{PREFIX}{uuid.uuid4()}"


def create_authorization(
    account: Account,
    description: str,
    token: str | None = None,
    *,
    scopes: Iterable[str] = (Scope.GLOBAL,),
    expires_at: datetime | None = None,
    authorization_id: uuid.UUID | None = None,
) -> Issued:
    """A new access token, or `token` itself, e.g. for HEROKU_API_KEY. Raises TeamHasNoTokens."""
    if not is_person(account.email):
        raise TeamHasNoTokens(f"{account.email} is a team; its members use their own tokens")
    token = token or new_token()
    authorization = Authorization.objects.create(
        id=authorization_id or uuid.uuid4(),
        account=account,
        description=description,
        scope=list(scopes),
        expires_at=expires_at,
        token_digest=digest(token),
        token_hint=_hint(token),
    )
    Account.objects.filter(id=account.id).update(last_login=timezone.now())
    return Issued(authorization=authorization, token=token)


def authorize(
    by: Authorization, wanted: NewAuthorization, new_id: uuid.UUID, now: datetime
) -> Issued:
    """Another token for the account of `by`, which must itself have the scopes that are wished.

    With the same `new_id` again its token is replaced, for nobody has received it.
    Raises InsufficientScope, TooManyAuthorizations.
    """
    require_scopes(by.scope, wanted.scopes)
    with transaction.atomic():
        # The same request may be under way twice at once.
        Account.objects.select_for_update(no_key=True).get(id=by.account_id)
        made = Authorization.objects.filter(id=new_id).first()
        if made is None:
            return _authorize(by, wanted, new_id, now)
        if _live(now).filter(id=new_id).exists():
            return regenerate(made, by, now)
        return _authorize(by, wanted, uuid.uuid4(), now)


def _authorize(
    by: Authorization, wanted: NewAuthorization, new_id: uuid.UUID, now: datetime
) -> Issued:
    if list_authorizations(by.account, now).count() >= AN_ACCOUNT_MAX:
        raise TooManyAuthorizations(
            f"An account can have at most {AN_ACCOUNT_MAX} authorizations. "
            "`heroku authorizations` lists them, `heroku authorizations:revoke ID` ends one"
        )
    lasts = None if wanted.expires_in_s is None else timedelta(seconds=wanted.expires_in_s)
    return create_authorization(
        by.account,
        wanted.description,
        scopes=wanted.scopes,
        expires_at=None if lasts is None else now + lasts,
        authorization_id=new_id,
    )


def list_authorizations(account: Account, now: datetime) -> QuerySet[Authorization]:
    """Those that can be used, the oldest first."""
    live = _live(now).filter(account=account)
    return live.select_related("account").order_by("created_at", "id")


def get_authorization(account: Account, identity: str, now: datetime) -> Authorization:
    """By its id. Raises AuthorizationNotFound.

    `~` is Heroku's default API key, which nobody has here: the CLI's logout spares a token that it
    finds there.
    """
    authorization_id = find_uuid(identity)
    if authorization_id is None:
        raise AuthorizationNotFound
    found = list_authorizations(account, now).filter(id=authorization_id).first()
    if found is None:
        raise AuthorizationNotFound
    return found


def find_authorization(token: str, now: datetime) -> Authorization | None:
    """The authorization of `token`, unless it is unknown, revoked or expired."""
    return _with_digest.first(digest(token), now)


@CompiledQuery
def _with_digest(token_digest: str, now: datetime) -> QuerySet[Authorization]:
    return _live(now).filter(token_digest=token_digest).select_related("account")


def describe(authorization: Authorization, by: Authorization, description: str) -> None:
    """Raises InsufficientScope."""
    require_scopes(by.scope, authorization.scope)
    authorization.description = description
    authorization.save(update_fields=["description", "updated_at"])


def revoke(authorization: Authorization, by: Authorization, now: datetime) -> None:
    """From now on the token is refused; doing so twice is harmless. Raises InsufficientScope."""
    require_scopes(by.scope, authorization.scope)
    row = Authorization.objects.filter(id=authorization.id, revoked_at=None)
    row.update(revoked_at=now, updated_at=now)


def regenerate(authorization: Authorization, by: Authorization, now: datetime) -> Issued:
    """Another token in the place of its own, which ends; its scopes and expiry stay.

    Raises InsufficientScope, AuthorizationNotFound.
    """
    require_scopes(by.scope, authorization.scope)
    token = new_token()
    changed = _live(now).filter(id=authorization.id)
    if not changed.update(token_digest=digest(token), token_hint=_hint(token), updated_at=now):
        raise AuthorizationNotFound
    authorization.refresh_from_db()
    return Issued(authorization=authorization, token=token)


def _live(now: datetime) -> QuerySet[Authorization]:
    return Authorization.objects.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _hint(token: str) -> str:
    """As `heroku logout` compares it with its own token."""
    return f"{token[:9]}**********{token[-4:]}"
