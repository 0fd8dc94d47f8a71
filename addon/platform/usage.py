"""What the add-ons of an app or an account used in a month: the meters of `heroku usage:addons`.

Read from the ledger's sums, so what was answered a moment ago is in it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from addon.json_api import find_uuid
from addon.platform.models import Account, Addon, App
from billing.periods import Period
from billing.sums import usage_between

# The label of each meter, by the name of its sum.
METERS: Mapping[str, str] = {
    "requests": "requests",
    "inputs": "inputs",
    "text_tokens": "input tokens",
    "image_tokens": "image tokens",
}


class TeamNotFound(Exception):
    """There are no teams: an account is its own, and nobody else's."""

    def __init__(self) -> None:
        super().__init__("Couldn't find that team.")


@dataclass(frozen=True, kw_only=True, slots=True)
class AddonUsage:
    """`meters` by label; those that stand at 0 are left out."""

    addon_id: UUID
    app_id: UUID
    meters: Mapping[str, int]


def get_team(account: Account, identity: str) -> Account:
    """The caller's own account, by its id or e-mail address. Raises TeamNotFound."""
    team_id = find_uuid(identity)
    is_own = identity.lower() == account.email.lower() if team_id is None else team_id == account.id
    if not is_own:
        raise TeamNotFound
    return account


def app_usage(app: App, month: Period) -> Sequence[AddonUsage]:
    """Of the add-ons that `app` owns, or owned in that month; those that were used."""
    return _usage(app.owner_id, Addon.objects.filter(app=app), month)


def account_usage(account: Account, month: Period) -> Mapping[UUID, Sequence[AddonUsage]]:
    """Of all the account's add-ons that were used, by app; of destroyed ones too."""
    by_app: dict[UUID, list[AddonUsage]] = defaultdict(list)
    for used in _usage(account.id, Addon.objects.filter(app__owner=account), month):
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
