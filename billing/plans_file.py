"""plans.toml read into values; errors name the plan and the key."""

import re
import tomllib
from collections import Counter
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from billing.option_schemas import InvalidSchema, check_schema

# With these bounds a request's cost, and an invoice's line, is an integer of 64 bits.
Amount = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
Workers = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Slug = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}\Z")]
# What msgspec says of a value that is wrong, and where it is: the keys from the table down.
_PLACE = re.compile(r"(?P<problem>.*) - at `(key in )?`?(?P<place>[^`]*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<key>.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`")


class InvalidPlans(Exception):
    """The file cannot be used; the text names the file, the plan and the key."""


class PriceEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Micro-units of the currency: a month, an hour of a worker, a million tokens."""

    active_from: Annotated[datetime, msgspec.Meta(tz=True)]
    currency: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{3}\Z")] = "usd"
    monthly: Amount = 0
    worker_hour: Amount = 0
    tokens: dict[str, Amount] = {}
    image_tokens: dict[str, Amount] = {}
    included_tokens: Tokens = 0


class PlanEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    service_name: Slug
    slug: Slug
    human_name: str
    description: str = ""
    is_default: bool = False
    is_visible: bool = True
    is_metered: bool = False
    is_contract: bool = False
    requests_per_minute: Positive
    tokens_per_minute: Positive
    concurrent_requests: Positive | None = None
    model_id: str = ""
    serves_all_models: bool = True
    worker_pool: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")] = "shared"
    workers: Workers = 0
    options_schema: dict[str, Any] | None = None
    async_operations: tuple[Literal["provision", "plan_change", "deprovision"], ...] = ()
    price: Annotated[tuple[PriceEntry, ...], msgspec.Meta(min_length=1)]

    @property
    def name(self) -> str:
        return f"{self.service_name}:{self.slug}"


def read_plans(path: Path) -> list[PlanEntry]:
    """The plans of the file, in its order. Raises InvalidPlans."""
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise InvalidPlans(f"{path.name} cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError, which names the line, or bytes of no UTF-8
        raise InvalidPlans(f"{path.name}: {error}") from error
    tables = document.pop("plan", [])
    if document or not isinstance(tables, list):
        raise InvalidPlans(f"{path.name} has [[plan]] tables, and nothing beside them")
    plans = [_read_plan(path, index, table) for index, table in enumerate(tables)]
    for name, count in Counter(plan.name for plan in plans).items():
        if count > 1:
            raise InvalidPlans(f"{path.name}: plan {name}: slug is that of {count} plans")
    return plans


def _read_plan(path: Path, index: int, table: Any) -> PlanEntry:
    try:
        plan = msgspec.convert(table, PlanEntry)
    except msgspec.ValidationError as error:
        slug = table.get("slug") if isinstance(table, dict) else None
        shown = slug if isinstance(slug, str) else f"number {index + 1}"
        raise InvalidPlans(f"{path.name}: plan {shown}: {_explain(str(error))}") from None
    if problem := _find_contradiction(plan):
        raise InvalidPlans(f"{path.name}: plan {plan.name}: {problem}")
    return plan


def _explain(error: str) -> str:
    """A sentence that names the key, from what msgspec says."""
    match = _PLACE.fullmatch(error)
    problem, place = match.group("problem", "place") if match else (error, "$")
    path = place.removeprefix("$").lstrip(".")
    inside = f"{path}." if path else ""
    if missing := _MISSING.fullmatch(problem):
        return f"{inside}{missing['key']} is missing"
    if unknown := _UNKNOWN.fullmatch(problem):
        kind = PriceEntry if path else PlanEntry
        close = get_close_matches(unknown["key"], kind.__struct_fields__, 1)
        hint = f": did you mean {close[0]}?" if close else ""
        return f"{inside}{unknown['key']} is not a key{hint}"
    return f"{path or 'the plan'}: {problem[:1].lower()}{problem[1:]}"


def _find_contradiction(plan: PlanEntry) -> str | None:
    """What cannot be right beside the plan's other values; it begins with the key."""
    if not plan.serves_all_models and not plan.model_id:
        return "model_id is missing: a plan that serves one model only must name it"
    if plan.options_schema and (problem := _find_schema_problem(plan, plan.options_schema)):
        return f"options_schema {problem}"
    for index, price in enumerate(plan.price):
        if index and price.active_from <= plan.price[index - 1].active_from:
            return f"price[{index}].active_from must be later than that of the price before it"
        if price.worker_hour and not plan.workers:
            return f"price[{index}].worker_hour is the price of workers, and workers is 0"
        wanted = {"*"} if plan.serves_all_models else {"*", plan.model_id}
        if not wanted & price.tokens.keys():
            return f"price[{index}].tokens has no price for {' or '.join(sorted(wanted))}"
    return None


def _find_schema_problem(plan: PlanEntry, schema: dict[str, Any]) -> str | None:
    try:
        check_schema(schema)
    except InvalidSchema as error:
        return str(error)
    if not plan.serves_all_models and "model" in schema.get("properties", {}):
        return "has the option model, and the plan serves one model only"
    return None
