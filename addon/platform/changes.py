"""What changes on an app, told within the transaction that changes it.

Who wants to know connects to `changed`: app webhooks do. A change that is rolled back was not told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from django.db.models import Model
from django.dispatch import Signal

from addon.platform.models import Account, AddonService, App


class Kind(StrEnum):
    """As webhooks name them."""

    ADDON = "api:addon"
    ATTACHMENT = "api:addon-attachment"
    APP = "api:app"
    COLLABORATOR = "api:collaborator"
    RELEASE = "api:release"


Action = Literal["create", "update", "destroy"]
Actor = Account | AddonService  # the service is its provider, who calls back


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """`row` is the App, Addon, Attachment, Collaborator or Release as it is after the change, or as
    it was before it was destroyed; `previous` has the old values of what was updated."""

    kind: Kind
    action: Action
    app: App
    row: Model
    account: Actor
    at: datetime
    previous: Mapping[str, object] = field(default_factory=dict)


changed = Signal()  # with `change`


def announce(change: Change) -> None:
    """To be called within the transaction; what a receiver raises rolls it back."""
    changed.send(sender=Change, change=change)
