"""What a plan costs: the versions of its price, each in force until the next one's `active_from`.

Amounts are integers. Token prices are micro-units of the currency (1 USD = 1,000,000) per million
tokens, so tokens × price is exact in 10⁻¹² units.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from django.db.models import QuerySet

from billing.compiled_queries import CompiledQuery
from billing.models import Plan, Price

PICOUNITS_PER_MICROUNIT = 1_000_000
MICROUNITS_PER_CENT = 10_000
# Rows of the ledger from before there were prices; they cost nothing.
BEFORE_PRICES = 0
# As a key of token prices: the models that are not named.
OTHER_MODELS = "*"
# Images are billed as that many pixels a token.
PIXELS_PER_TOKEN = 784


class ModelHasNoPrice(Exception):
    """The plan has a price neither for that model nor for the others."""


class PlanHasNoPrice(Exception):
    """No version of the plan's price is in force."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceVersion:
    id: int
    plan_name: str
    version: int
    active_from: datetime
    currency: str
    monthly_microunits: int
    worker_hour_microunits: int
    token_prices: Mapping[str, int]
    image_token_prices: Mapping[str, int]
    included_tokens: int

    @classmethod
    def of(cls, price: Price) -> Self:
        return cls(
            id=price.id,
            plan_name=price.plan.name,
            version=price.version,
            active_from=price.active_from,
            currency=price.currency,
            monthly_microunits=price.monthly_microunits,
            worker_hour_microunits=price.worker_hour_microunits,
            token_prices=price.token_prices,
            image_token_prices=price.image_token_prices,
            included_tokens=price.included_tokens,
        )

    def token_price(self, model_id: str) -> int:
        """Micro-units per million tokens of text. Raises ModelHasNoPrice."""
        return self._find(self.token_prices, model_id, "texts")

    def image_token_price(self, model_id: str) -> int:
        """Micro-units per million tokens of images. Raises ModelHasNoPrice."""
        return self._find(self.image_token_prices, model_id, "images")

    def cost_picounits(self, model_id: str, *, text_tokens: int, image_tokens: int = 0) -> int:
        """In 10⁻¹² units, exact. Raises ModelHasNoPrice."""
        cost = text_tokens * self.token_price(model_id) if text_tokens else 0
        if image_tokens:
            cost += image_tokens * self.image_token_price(model_id)
        return cost

    def _find(self, prices: Mapping[str, int], model_id: str, what: str) -> int:
        price = prices.get(model_id, prices.get(OTHER_MODELS))
        if price is None:
            raise ModelHasNoPrice(f"{self.plan_name} has no price for {what} of {model_id}")
        return price


def prices_of(plan: Plan) -> tuple[PriceVersion, ...]:
    """Every version, future ones too, by `active_from`."""
    return tuple(map(PriceVersion.of, _prices_of.all(plan.id)))


@CompiledQuery
def _prices_of(plan_id: UUID) -> QuerySet[Price]:
    found = Price.objects.filter(plan_id=plan_id).select_related("plan")
    return found.order_by("active_from")


def price_at(prices: Sequence[PriceVersion], at: datetime) -> PriceVersion:
    """The version in force, of versions in the order of `active_from`. Raises PlanHasNoPrice."""
    index = bisect_right(prices, at, key=lambda price: price.active_from)
    if not index:
        raise PlanHasNoPrice(f"no price is in force at {at.isoformat()}")
    return prices[index - 1]


def currency() -> str:
    """That of this deployment: every price has the same. Raises PlanHasNoPrice."""
    found = Price.objects.order_by("id").values_list("currency", flat=True).first()
    if found is None:
        raise PlanHasNoPrice("no plan has a price yet: run manage.py sync_catalogue")
    return found


def image_tokens(width: int, height: int) -> int:
    """The tokens that an image of so many pixels is billed as."""
    return -(-width * height // PIXELS_PER_TOKEN)
