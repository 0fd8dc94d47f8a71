"""Options of a provision request (`addons:create … -- --model X`), checked by their plan's schema.

A plan's schema is JSON Schema 2020-12 and describes an object of strings, which is all that options
can be. What it does not name is ignored, as the contract asks, unless it says
`"additionalProperties": false`.
"""

from collections.abc import Mapping
from typing import Any

from billing.models import Plan

SHOWN_MAX_CHARACTERS = 100


class InvalidOption(Exception):
    """An option is not what the plan allows; the text names it and what is allowed."""


def check_options(plan: Plan, options: Mapping[str, str]) -> None:
    """Raises InvalidOption for the worst that is wrong."""
    if not plan.options_schema:
        return
    from jsonschema import Draft202012Validator, exceptions  # slow, and needed by this alone

    errors = Draft202012Validator(plan.options_schema).iter_errors(dict(options))
    error = exceptions.best_match(errors)
    if error is not None:
        raise InvalidOption(_sentence(plan, error))


def _sentence(plan: Plan, error: Any) -> str:
    """Of jsonschema's ValidationError."""
    if not error.path:  # the set of options, rather than the value of one
        known = ", ".join(sorted(plan.options_schema.get("properties", {}))) or "none"
        return f"options: {error.message[:500]}. The plan {plan.slug} has these options: {known}"
    given = str(error.instance)[:SHOWN_MAX_CHARACTERS]
    return f"option {error.path[0]} must be {_allowed(error)}, not {given!r}"


def _allowed(error: Any) -> str:
    value = error.validator_value
    match error.validator:
        case "enum":
            return f"one of: {', '.join(map(str, value))}"
        case "pattern":
            return f"text that matches {value}"
        case "minLength":
            return f"at least {value} characters long"
        case "maxLength":
            return f"at most {value} characters long"
        case _:
            return f"valid by the schema's {error.validator} {value!r}"
