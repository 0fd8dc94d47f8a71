"""The example in docs/invoices.md is what rating makes of it."""

import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings

from billing.periods import parse_month
from billing.prices import PriceVersion
from billing.rating import Term, rate
from billing.sums import Used

RESOURCE = uuid.uuid4()
MINUS = chr(0x2212)  # as the page writes it


def price(id_: int, name: str, **figures: int) -> PriceVersion:
    return PriceVersion(
        id=id_,
        plan_name=name,
        version=1,
        active_from=datetime(2026, 1, 1, tzinfo=UTC),
        currency="usd",
        monthly_microunits=figures.get("monthly", 0),
        worker_hour_microunits=figures.get("worker_hour", 0),
        token_prices={"*": figures["tokens"]},
        image_token_prices={},
        included_tokens=figures.get("included", 0),
    )


def stay(price: PriceVersion, start_at: datetime, end_at: datetime) -> Term:
    return Term(
        resource_id=RESOURCE,
        resource_name="",
        plan_name=price.plan_name,
        workers=1,
        prices=(price,),
        start_at=start_at,
        end_at=end_at,
    )


def used(price: PriceVersion, tokens: int) -> Used:
    return Used(
        resource_id=RESOURCE,
        price_id=price.id,
        model_id="m",
        requests=1,
        inputs=1,
        text_tokens=tokens,
        image_tokens=0,
        cost_picounits=0,
    )


def test_the_documented_example_is_what_is_invoiced() -> None:
    text = (Path(settings.BASE_DIR) / "docs" / "invoices.md").read_text()
    table = text[text.index("| line | calculation |") : text.index("## From a line")]
    table = table.replace(MINUS, "-").replace(",", "")
    cells = re.findall(r"^\| (?:`(\w+)` )?(\w+) \|.*\| (-?\d+) \|$", table, re.MULTILINE)
    documented = {(kind, plan): int(amount) for kind, plan, amount in cells}

    november = parse_month("2026-11")
    a = price(1, "A", monthly=5_000_000, tokens=20_000, included=1_000_000)
    b = price(2, "B", worker_hour=2_940_000, tokens=0)
    change = november.start_at + timedelta(seconds=864_000)
    terms = [
        stay(a, november.start_at, change),
        stay(b, change, change + timedelta(hours=10)),
    ]
    usage = [used(a, 2_500_075), used(b, 40_000_000)]
    lines = rate(november, terms, usage, {1: a, 2: b}, november.end_at)
    rated = {(line.kind.value, line.plan_name): line.amount_microunits for line in lines}
    assert documented == {**rated, ("", "total"): sum(rated.values())}
