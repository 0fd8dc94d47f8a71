"""Heroku apps: created, found, locked. What destroying one takes along is in app_removal.py."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from addon.json_api import find_uuid, is_storable
from addon.platform import names
from addon.platform.access import Forbidden, Permission, permissions_on, visible_to
from addon.platform.changes import Change, Kind, announce
from addon.platform.models import Account, App, AttachmentState
from addon.platform.regions import REGIONS
from addon.platform.releases import create_release
from billing.budgets import find_app_budget
from billing.compiled_queries import CompiledQuery

STACKS = ("heroku-24",)
NAME_PATTERN = re.compile(r"[a-z][a-z0-9-]{1,28}[a-z0-9]")
GENERATED_NAME_TRIES = 10


class AppNotFound(Exception):
    def __init__(self) -> None:
        super().__init__("Couldn't find that app.")


class InvalidApp(Exception):
    """The name, region or stack is not allowed; the text says what is."""


class AppNameTaken(Exception):
    pass


class AppHasBudget(Exception):
    """Spending is counted by the app's name, so the budget would lose sight of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewApp:
    """`id` is the same when a request is repeated, and then nothing new is made."""

    name: str | None
    region: str
    stack: str
    id: UUID = field(default_factory=uuid4)


def create_app(owner: Account, wanted: NewApp, now: datetime, by: Account | None = None) -> App:
    """A new app with its first release, made `by` its owner or by a member of the team.

    Raises InvalidApp, AppNameTaken.
    """
    _validate(wanted)
    made = _find_made(owner, wanted)
    if made is not None:
        return made
    # The same request may have made one that was destroyed since, or is another team's.
    app_id = uuid4() if App.objects.filter(id=wanted.id).exists() else wanted.id
    for _ in range(1 if wanted.name else GENERATED_NAME_TRIES):
        name = wanted.name or names.app_name()
        app = App(
            id=app_id,
            name=name,
            owner=owner,
            region=wanted.region,
            stack=wanted.stack,
            released_at=now,
        )
        try:
            _insert(app, by or owner, now)
        except IntegrityError:
            made = _find_made(owner, wanted)  # by the same request, sent twice at once
            if made is not None:
                return made
        else:
            return app
    raise AppNameTaken(f"Name {name} is already taken")


def _find_made(owner: Account, wanted: NewApp) -> App | None:
    made = App.objects.filter(id=wanted.id, owner=owner, destroyed_at=None)
    return made.select_related("owner__team").first()


def _validate(wanted: NewApp) -> None:
    if wanted.name is not None:
        _validate_name(wanted.name)
    if wanted.region not in REGIONS:
        raise InvalidApp(f"region must be one of: {', '.join(REGIONS)}")
    if wanted.stack not in STACKS:
        raise InvalidApp(f"stack must be one of: {', '.join(STACKS)}")


def _validate_name(name: str) -> None:
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidApp(
            "Name must start with a letter, end with a letter or digit and can only contain "
            "lowercase letters, digits, and dashes; 3 to 30 characters"
        )


def _insert(app: App, account: Account, now: datetime) -> None:
    """Raises IntegrityError when the name or the id is taken."""
    with transaction.atomic():
        app.save(force_insert=True)
        create_release(app, account, "Initial release", now)
        announce(Change(kind=Kind.APP, action="create", app=app, row=app, account=account, at=now))


def rename_app(app: App, name: str, account: Account, now: datetime) -> App:
    """Its id and config vars stay; providers are told the new name by the reconciler.

    Raises InvalidApp, AppNameTaken, AppHasBudget, AppNotFound.
    """
    _validate_name(name)
    try:
        with transaction.atomic():
            locked = lock_app(app.id)
            previous = locked.name
            if name == previous:
                return locked
            if find_app_budget(locked.owner_id, previous) is not None:
                raise AppHasBudget(
                    f"{previous} has a budget, which counts by the name of the app: delete it "
                    f"first, and make it anew for {name}"
                )
            locked.name = name
            locked.save(update_fields=["name", "updated_at"])
            _tell_providers(locked, now)
            announce(
                Change(
                    kind=Kind.APP, action="update", app=locked, row=locked, account=account,
                    at=now, previous={"name": previous},
                )
            )  # fmt: skip
    except IntegrityError:
        raise AppNameTaken(f"Name {name} is already taken") from None
    return locked


def _tell_providers(app: App, now: datetime) -> None:
    """Those that know its attachments one by one; the reconciler makes the calls."""
    attached = app.attachments.filter(
        state=AttachmentState.ATTACHED, addon__service__attachment_credentials=True
    )
    attached.update(next_attempt_at=now, attempts=0)


def list_apps(account: Account) -> QuerySet[App]:
    """Those that `account` may see: its own, its teams', and those that it collaborates on."""
    visible = App.objects.filter(visible_to(account), destroyed_at=None)
    return visible.select_related("owner__team").order_by("name")


def list_personal_apps(account: Account) -> QuerySet[App]:
    """Its own and those that it collaborates on, without those of teams."""
    return list_apps(account).filter(owner__team=None)


def get_app(account: Account, identity: str, permission: Permission = Permission.VIEW) -> App:
    """By id or name. An app that `account` may not see is not found.

    Raises AppNotFound, and Forbidden when it may be seen but `permission` is lacking.
    """
    app_id = find_uuid(identity)
    found = None
    if app_id is not None:
        found = _with_id.first(app_id)
    elif is_storable(identity):
        found = _named.first(identity)
    granted = permissions_on(found, account) if found else frozenset()
    if found is None or not granted:
        raise AppNotFound
    if permission not in granted:
        raise Forbidden(found, permission, may_see=True)
    return found


@CompiledQuery
def _with_id(app_id: UUID) -> QuerySet[App]:
    return App.objects.filter(id=app_id, destroyed_at=None).select_related("owner__team")


@CompiledQuery
def _named(name: str) -> QuerySet[App]:
    return App.objects.filter(name=name, destroyed_at=None).select_related("owner__team")


def lock_app(app_id: UUID) -> App:
    """The app, locked until the transaction ends. Raises AppNotFound when it was destroyed.

    Releases, config vars and attachment names of an app change under this lock. Who also locks an
    add-on locks that first, and several apps are locked in the order of their ids.
    """
    app = _locked.first(app_id)
    if app is None:
        raise AppNotFound
    return app


@CompiledQuery
def _locked(app_id: UUID) -> QuerySet[App]:
    # Rows that refer to the app do not wait for the lock: whoever inserts one may hold another.
    return App.objects.select_for_update(no_key=True).filter(id=app_id, destroyed_at=None)
