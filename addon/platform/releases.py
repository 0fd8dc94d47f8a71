"""Releases: a numbered line for every change of an app's config or add-ons."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max

from addon.json_api import find_uuid
from addon.lifecycle import State
from addon.platform.models import Account, Addon, App, Release

PAGE_MAX = 1000
PAGE_DEFAULT = 200
VERSION_MAX = 2**31 - 1

_RANGE = re.compile(r"version\s+(\]?)(\d{0,10})\.\.(\d{0,10})\s*(?:;(.*))?")


class ReleaseNotFound(Exception):
    pass


class InvalidRange(Exception):
    """The Range header asks for something that releases cannot be asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionRange:
    """Which releases of an app, and in which order. The first version may be excluded."""

    first: int | None = None
    is_first_excluded: bool = False
    last: int | None = None
    max: int = PAGE_DEFAULT
    is_newest_first: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    releases: Sequence[Release]
    is_cut: bool
    range: VersionRange


def create_release(app: App, account: Account, description: str, now: datetime) -> Release:
    """The next release. The caller holds the lock of `app`, so versions have no gaps or doubles."""
    newest: int = app.releases.aggregate(newest=Max("version"))["newest"] or 0
    release = Release.objects.create(
        app=app,
        version=newest + 1,
        description=description,
        account=account,
        addon_plan_names=_plan_names(app),
        created_at=now,
    )
    App.objects.filter(id=app.id).update(released_at=now, updated_at=now)
    return release


def _plan_names(app: App) -> list[str]:
    live = Addon.objects.filter(app=app, state=State.PROVISIONED).select_related("plan")
    return sorted(addon.plan.name for addon in live)


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


def current_version(app: App) -> int | None:
    newest: int | None = app.releases.aggregate(newest=Max("version"))["newest"]
    return newest


def list_releases(app: App, wanted: VersionRange) -> Page:
    low, high = wanted.first, wanted.last
    if wanted.is_newest_first:
        low, high = high, low
    found = app.releases.order_by("-version" if wanted.is_newest_first else "version")
    if low is not None:
        found = found.filter(version__gte=low)
    if high is not None:
        found = found.filter(version__lte=high)
    if wanted.is_first_excluded and wanted.first is not None:
        found = found.exclude(version=wanted.first)
    releases = list(found.select_related("account", "app")[: wanted.max + 1])
    is_cut = len(releases) > wanted.max
    return Page(releases=releases[: wanted.max], is_cut=is_cut, range=wanted)


def range_headers(page: Page) -> dict[str, str]:
    """Content-Range, and of a cut list Next-Range, with which the CLI asks for the rest."""
    headers = {"Accept-Ranges": "version"}
    if not page.releases:
        return headers
    first, last = page.releases[0].version, page.releases[-1].version
    headers["Content-Range"] = f"version {first}..{last}; max={page.range.max}"
    if page.is_cut:
        order = ", order=desc" if page.range.is_newest_first else ""
        end = page.range.last or ""
        headers["Next-Range"] = f"version ]{last}..{end}; max={page.range.max}{order}"
    return headers


def parse_range(header: str) -> VersionRange:
    """`version ..; max=1, order=desc`, the options in either order. Raises InvalidRange."""
    if not header:
        return VersionRange()
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        raise InvalidRange("Range must look like: version ..; max=10, order=desc")
    excluded, first, last, options = match.groups()
    order, limit = _range_options(options or "")
    return VersionRange(
        first=min(int(first), VERSION_MAX) if first else None,
        is_first_excluded=bool(excluded and first),
        last=min(int(last), VERSION_MAX) if last else None,
        max=limit,
        is_newest_first=order == "desc",
    )


def _range_options(text: str) -> tuple[str, int]:
    order, limit = "asc", PAGE_DEFAULT
    for option in filter(None, (part.strip() for part in text.rstrip("; ").split(","))):
        name, _, value = option.partition("=")
        if name == "order" and value in {"asc", "desc"}:
            order = value
        elif name == "max" and re.fullmatch(r"\d{1,4}", value) and 1 <= int(value) <= PAGE_MAX:
            limit = int(value)
        else:
            raise InvalidRange(
                f"Range can have the options max=1 to max={PAGE_MAX}, order=asc and order=desc; "
                f"not {option!r}"
            )
    return order, limit
