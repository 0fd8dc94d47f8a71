"""Releases: a numbered line for every change of an app's config or add-ons."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from django.db.models import Max, Min, Q, QuerySet

from addon.json_api import find_uuid
from addon.lifecycle import State
from addon.platform.changes import Actor, Change, Kind, announce
from addon.platform.models import Account, Addon, App, ConfigVar, Release
from addon.statements import insert, update
from billing.compiled_queries import CompiledQuery

VERSION_MAX = 2**31 - 1


class ReleaseNotFound(Exception):
    pass


class NoSnapshot(Exception):
    """The release is from before config vars were kept with releases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Versions:
    """An app's newest version, and the oldest whose config vars were kept; all since then were."""

    current: int | None
    oldest_kept: int | None


def create_release(
    app: App, account: Actor, description: str, now: datetime, release_id: UUID | None = None
) -> Release:
    """The next release. The caller holds the lock of `app`, so versions have no gaps or doubles."""
    newest = _newest_version.first(app.id)
    release = Release(
        id=release_id or uuid4(),
        app=app,
        version=newest[0] + 1 if newest else 1,
        description=description,
        account=account if isinstance(account, Account) else None,
        service=None if isinstance(account, Account) else account,
        addon_plan_names=_plan_names(app),
        config_vars=json.dumps(_snapshot(app)),
        created_at=now,
    )
    insert(release)
    app.released_at = app.updated_at = now
    update(App, {"id": app.id}, {"released_at": now, "updated_at": now})
    announce(
        Change(kind=Kind.RELEASE, action="create", app=app, row=release, account=account, at=now)
    )
    return release


def _snapshot(app: App) -> dict[str, dict[str, str]]:
    """All config vars: the user's, and those that attachments own."""
    snapshot: dict[str, dict[str, str]] = {"user": {}, "attached": {}}
    for name, value, attachment_id in _vars_of.all(app.id):
        snapshot["user" if attachment_id is None else "attached"][name] = value
    return snapshot


@CompiledQuery
def _newest_version(app_id: UUID) -> QuerySet[Release, tuple[int]]:
    return Release.objects.filter(app_id=app_id).order_by("-version").values_list("version")[:1]


@CompiledQuery
def _vars_of(app_id: UUID) -> QuerySet[ConfigVar, tuple[str, str, UUID | None]]:
    found = ConfigVar.objects.filter(app_id=app_id)
    return found.values_list("name", "value", "attachment_id")


def config_of_release(release: Release) -> dict[str, str]:
    """Every config var as it was with the release. Raises NoSnapshot."""
    snapshot = _read_snapshot(release)
    return dict(sorted({**snapshot["user"], **snapshot["attached"]}.items()))


def user_config_of_release(release: Release) -> dict[str, str]:
    """Those that no attachment owned then. Raises NoSnapshot."""
    return _read_snapshot(release)["user"]


def _read_snapshot(release: Release) -> dict[str, dict[str, str]]:
    if release.config_vars is None:
        raise NoSnapshot(f"The config vars of v{release.version} were not kept")
    snapshot: dict[str, dict[str, str]] = json.loads(release.config_vars)
    return snapshot


def _plan_names(app: App) -> list[str]:
    return sorted(f"{service_name}:{slug}" for service_name, slug in _plans_of.all(app.id))


@CompiledQuery
def _plans_of(app_id: UUID) -> QuerySet[Addon, tuple[str, str]]:
    live = Addon.objects.filter(app_id=app_id, state=State.PROVISIONED)
    return live.values_list("plan__service_name", "plan__slug")


def get_release(app: App, identity: str) -> Release:
    """By id or version. Raises ReleaseNotFound."""
    found = None
    release_id = find_uuid(identity)
    if release_id is not None:
        found = app.releases.filter(id=release_id).first()
    elif re.fullmatch(r"[0-9]{1,10}", identity) and int(identity) <= VERSION_MAX:
        found = app.releases.filter(version=int(identity)).first()
    if found is None:
        raise ReleaseNotFound("Couldn't find that release.")
    return found


def versions_of(app: App) -> Versions:
    kept = Q(config_vars__isnull=False)
    found = app.releases.aggregate(current=Max("version"), oldest=Min("version", filter=kept))
    return Versions(current=found["current"], oldest_kept=found["oldest"])


def list_releases(app: App) -> QuerySet[Release]:
    # The config vars are long, each is decrypted when it is read, and no list shows them.
    return app.releases.select_related("account", "service", "app").defer("config_vars")
