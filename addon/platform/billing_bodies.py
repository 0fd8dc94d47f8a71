"""What requests about billing say, read once into values. Errors name the field."""

from dataclasses import fields
from datetime import datetime
from uuid import UUID

from rest_framework.request import Request

from addon.json_api import InvalidField, Json, find_text, find_uuid, read_object, read_text
from billing.budgets import BudgetTerms
from billing.periods import Period, month_of, parse_month

PAGE_DEFAULT = 100
PAGE_MAX = 20_000

TERMS = tuple(field.name for field in fields(BudgetTerms))
TEXT_TERMS = ("email", "webhook_url", "webhook_secret")
SCOPE_FIELDS = ("scope", "scope_id")


def read_month(request: Request, now: datetime) -> Period:
    """The month of the query, `?month=2026-11`, or the current one. Raises InvalidField."""
    text = request.query_params.get("month")
    if text is None:
        return month_of(now)
    try:
        return parse_month(text)
    except ValueError:
        raise InvalidField("month must be a month like 2026-11") from None


def read_page(request: Request, default: int) -> tuple[UUID | None, int]:
    """`?after=ID&limit=100`: after which request's id, and how many. Raises InvalidField."""
    after = request.query_params.get("after")
    after_id = find_uuid(after) if after is not None else None
    if after is not None and after_id is None:
        raise InvalidField("after must be the id of a request, a UUID")
    limit = request.query_params.get("limit", str(default))
    if not (
        limit.isascii() and limit.isdigit() and len(limit) <= 9 and 1 <= int(limit) <= PAGE_MAX
    ):
        raise InvalidField(f"limit must be an integer from 1 to {PAGE_MAX}")
    return after_id, int(limit)


def read_budget_scope(data: object) -> tuple[str, str]:
    """The scope and what it is called; an account needs no name."""
    body = read_object(data)
    return read_text(body, "scope", 20), find_text(body, "scope_id", 64) or ""


def read_budget_terms(data: object) -> BudgetTerms:
    """What a new budget shall be. A misspelled field is refused: is_hard must not be lost."""
    body = read_object(data)
    changes = _terms(body, (*SCOPE_FIELDS, *TERMS))
    if "limit_microunits" not in changes:
        raise InvalidField("limit_microunits must be given: micro-units of the currency a month")
    return BudgetTerms(**changes)  # type: ignore[arg-type]  # billing.budgets checks the values


def read_budget_changes(data: object) -> dict[str, object]:
    return _terms(read_object(data), TERMS)


def _terms(body: Json, known: tuple[str, ...]) -> dict[str, object]:
    for name in body:
        if name not in known:
            raise InvalidField(f"{name[:100]} cannot be set; what can is {', '.join(known)}")
    texts = {name: find_text(body, name, 500) or "" for name in TEXT_TERMS if name in body}
    return {name: body[name] for name in TERMS if name in body} | texts
