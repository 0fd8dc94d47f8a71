"""Heroku apps: created, found, locked. What destroying one takes along is in app_removal.py."""

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from addon.json_api import find_uuid, is_storable
from addon.platform import names
from addon.platform.models import Account, App
from addon.platform.regions import REGIONS
from addon.platform.releases import create_release

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


@dataclass(frozen=True, kw_only=True, slots=True)
class NewApp:
    name: str | None
    region: str
    stack: str


def create_app(owner: Account, wanted: NewApp, now: datetime) -> App:
    """A new app with its first release. Raises InvalidApp, AppNameTaken."""
    _validate(wanted)
    if wanted.name is not None:
        return _insert(owner, wanted, wanted.name, now)
    for _ in range(GENERATED_NAME_TRIES - 1):
        try:
            return _insert(owner, wanted, names.app_name(), now)
        except AppNameTaken:
            continue
    return _insert(owner, wanted, names.app_name(), now)


def _validate(wanted: NewApp) -> None:
    if wanted.name is not None and not NAME_PATTERN.fullmatch(wanted.name):
        raise InvalidApp(
            "Name must start with a letter, end with a letter or digit and can only contain "
            "lowercase letters, digits, and dashes; 3 to 30 characters"
        )
    if wanted.region not in REGIONS:
        raise InvalidApp(f"region must be one of: {', '.join(REGIONS)}")
    if wanted.stack not in STACKS:
        raise InvalidApp(f"stack must be one of: {', '.join(STACKS)}")


def _insert(owner: Account, wanted: NewApp, name: str, now: datetime) -> App:
    try:
        with transaction.atomic():
            app = App.objects.create(
                name=name, owner=owner, region=wanted.region, stack=wanted.stack, released_at=now
            )
            create_release(app, owner, "Initial release", now)
    except IntegrityError:
        raise AppNameTaken(f"Name {name} is already taken") from None
    return app


def list_apps(owner: Account) -> QuerySet[App]:
    return (
        App.objects.filter(owner=owner, destroyed_at=None).select_related("owner").order_by("name")
    )


def get_app(owner: Account, identity: str) -> App:
    """By id or name. Another account's app is not found. Raises AppNotFound."""
    app_id = find_uuid(identity)
    found = None
    if app_id is not None:
        found = list_apps(owner).filter(id=app_id).first()
    elif is_storable(identity):
        found = list_apps(owner).filter(name=identity).first()
    if found is None:
        raise AppNotFound
    return found


def lock_app(app_id: UUID) -> App:
    """The app, locked until the transaction ends. Raises AppNotFound when it was destroyed.

    Releases, config vars and attachment names of an app change under this lock. Who also locks an
    add-on locks that first, and several apps are locked in the order of their ids.
    """
    app = App.objects.select_for_update().filter(id=app_id, destroyed_at=None).first()
    if app is None:
        raise AppNotFound
    return app
