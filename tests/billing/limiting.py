"""Limiters, shares and what the ledger says, as the tests of the limits make them."""

import uuid
from collections.abc import Callable, Collection
from typing import Any

from billing.periods import Period
from billing.rate_limits import Limiter, Limits, Share
from billing.spend import LedgerSpend

CUSTOMER_ID = uuid.UUID("01890000-0000-7000-8000-000000000001")
ATTACHMENT_ID = uuid.UUID("01890000-0000-7000-8000-000000000002")
ATTACHMENT = f"attachment:{ATTACHMENT_ID}"
LIMITS = Limits(requests=5, tokens=100)

NewShare = Callable[..., Share]


def new_share(tokens: int = 1, **changes: Any) -> Share:
    """Of one attachment's use of one model, except for what is given."""
    given: dict[str, Any] = {
        "id": uuid.uuid4(),
        "customer_id": CUSTOMER_ID,
        "attachment_id": ATTACHMENT_ID,
        "model_id": "m",
        "app_name": "shop",
        "tokens": tokens,
        "lease_s": 40.0,
    }
    return Share(**given | changes)


class Ledger:
    """Answers what it was told; counts how often."""

    def __init__(self, *, account: int = 0, app: int = 0, attachment: int = 0) -> None:
        self.picounits = {"account": account, "app:shop": app, ATTACHMENT: attachment}
        self.stored: set[uuid.UUID] = set()
        self.reads = 0

    def store(self, share: Share) -> None:
        self.stored.add(share.id)
        for scope in ("account", f"app:{share.app_name}", f"attachment:{share.attachment_id}"):
            self.picounits[scope] = self.picounits.get(scope, 0) + share.cost_picounits

    async def read(
        self, customer_id: uuid.UUID, period: Period, asked: Collection[uuid.UUID]
    ) -> LedgerSpend:
        self.reads += 1
        return LedgerSpend(
            picounits=dict(self.picounits), stored=frozenset(self.stored & set(asked))
        )


async def settled(limiter: Limiter, share: Share) -> None:
    """Settle, and wait until Redis has done it."""
    limiter.settle(share)
    await limiter.read_spend(share.customer_id)
