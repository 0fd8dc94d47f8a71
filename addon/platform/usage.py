"""What the add-ons of an app or an owner used in a month: the meters of `heroku usage:addons`.

Read from the ledger's sums, so what was answered a moment ago is in it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from addon.platform.access import visible_to
from addon.platform.models import Account, Addon, App
from addon.platform.teams import get_membership
from billing.periods import Period
from billing.sums import usage_between

# The label of each meter, by the name of its sum.
METERS: Mapping[str, str] = {
    "requests": "requests",
    "inputs": "inputs",
    "text_tokens": "input tokens",
    "image_tokens": "image tokens",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """A team, or the caller's own account in the place of one; `account` owns the apps."""

    id: UUID
    name: str
    account: Account


@dataclass(frozen=True, kw_only=True, slots=True)
class AddonUsage:
    """`meters` by label; those that stand at 0 are left out."""

    addon_id: UUID
    app_id: UUID
    meters: Mapping[str, int]


def get_owner(account: Account, identity: str) -> Owner:
    """A team by its name or id, the caller's own account by its id or e-mail address.

    Raises TeamNotFound.
    """
    if identity.lower() in {account.email.lower(), str(account.id)}:
        return Owner(id=account.id, name=account.email, account=account)
    team = get_membership(account, identity).team
    return Owner(id=team.id, name=team.name, account=team.account)


def app_usage(app: App, month: Period) -> Sequence[AddonUsage]:
    """Of the add-ons that `app` owns, or owned in that month; those that were used."""
    return _usage(app.owner_id, Addon.objects.filter(app=app), month)


def usage_by_app(
    owner: Account, account: Account, month: Period
) -> Mapping[UUID, Sequence[AddonUsage]]:
    """Of the owner's add-ons that were used, of destroyed ones too, on apps that `account` sees."""
    by_app: dict[UUID, list[AddonUsage]] = defaultdict(list)
    addons = Addon.objects.filter(visible_to(account, "app__"), app__owner=owner)
    for used in _usage(owner.id, addons, month):
        by_app[used.app_id].append(used)
    return by_app


def _usage(customer_id: UUID, addons: Iterable[Addon], month: Period) -> list[AddonUsage]:
    meters: dict[UUID, Counter[str]] = defaultdict(Counter)
    for used in usage_between(customer_id, month.start_at, month.end_at):
        for name, label in METERS.items():
            meters[used.resource_id][label] += getattr(used, name)
    return [
        AddonUsage(addon_id=addon.id, app_id=addon.app_id, meters=+meters[addon.id])
        for addon in sorted(addons, key=lambda addon: addon.name)
        if addon.id in meters
    ]
