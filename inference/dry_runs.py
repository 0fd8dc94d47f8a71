"""Dry runs: what a request for embeddings would be computed from and cost. Nothing is billed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from uuid_utils.compat import uuid7

from billing.prices import PICOUNITS_PER_MICROUNIT, PriceVersion
from billing.rate_limits import Limiter, Share, Standing
from inference.authentication import Caller
from inference.catalogue import Model
from inference.embedding_requests import EmbeddingsRequest, check_texts
from inference.embeddings import find_model, lease_s, reserved, tokenize_texts
from inference.tokenization import TokenBatch

# What stands where requests have their model's id, so that dry runs take nothing from those.
USE = "dry-run/tokenize"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DryRun:
    """What would be computed and billed; the standing is that of dry runs."""

    model: Model
    tokens: TokenBatch
    standing: Standing
    price: PriceVersion

    @property
    def token_price(self) -> int:
        """Micro-units of the price's currency per million tokens."""
        return self.price.token_price(self.model.id)

    @property
    def cost_microunits(self) -> float:
        cost = self.price.cost_picounits(self.model.id, text_tokens=self.tokens.token_count)
        return cost / PICOUNITS_PER_MICROUNIT

    def rows(self) -> Iterator[NDArray[np.int32]]:
        """The token ids of each text, as they would be computed."""
        ends = np.cumsum(self.tokens.lengths).tolist()
        return (self.tokens.ids[start:end] for start, end in pairwise([0, *ends]))


async def dry_run(
    request: EmbeddingsRequest, caller: Caller, *, deadline_at: float, limiter: Limiter
) -> DryRun:
    """The request up to where its tokens are known. It counts as one request of the caller's dry
    runs, which may be as many a minute as requests for embeddings; those stay untouched.

    Raises what `create_embeddings` raises up to there, for the same reasons.
    """
    model = find_model(request.model_id, caller)
    check_texts(model, request)
    price = caller.price(caller.now())
    price.token_price(model.id)  # or it has none
    share = Share(
        id=uuid7(),
        customer_id=caller.customer_id,
        attachment_id=caller.identity.attachment_id,
        model_id=USE,
        tokens=0,
        lease_s=lease_s(deadline_at),
    )
    async with reserved(limiter, share, caller.limits_for(model.id)) as reservation:
        batch = await tokenize_texts(model, request, deadline_at)
    return DryRun(model=model, tokens=batch, standing=reservation.standing, price=price)
