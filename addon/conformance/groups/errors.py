"""Refusals: the status says whether to try again, the message is read by the customer."""

from uuid import uuid4

from addon.conformance.checks import Failed, check
from addon.conformance.exchanges import Exchange
from addon.conformance.groups.config import kind_of
from addon.conformance.groups.provision import MESSAGE_MAX_CHARACTERS
from addon.conformance.run import Run

# What only a program's own words have.
SIGNS_OF_A_PROGRAM = ("Traceback", "Exception", "<html", "<!doctype", "stack trace", " at /")


def require_message(exchange: Exchange) -> None:
    """Raises Failed unless the answer has a message that a customer can read."""
    message = exchange.message
    if not isinstance(message, str) or not message.strip():
        raise Failed(f"message is {kind_of(message)}; expected a sentence for the customer")
    if len(message) > MESSAGE_MAX_CHARACTERS:
        raise Failed(f"message has {len(message)} characters; at most {MESSAGE_MAX_CHARACTERS}")
    if any(sign.lower() in message.lower() for sign in SIGNS_OF_A_PROGRAM):
        raise Failed("message is a program's error; expected a sentence for the customer")


def require_refusal(exchange: Exchange, what: str) -> None:
    if exchange.status is None or not 400 <= exchange.status < 500:
        raise Failed(f"{what} was answered {exchange.said}; expected a 4xx")


@check(
    "errors.unknown-plan",
    "an unknown plan is a 422 with a message",
    "422 says that it is final; anything else is tried again for a day.",
)
def unknown_plan(run: Run) -> None:
    exchange = run.post(run.order("conformance-no-such-plan"))
    if exchange.status != 422:
        raise Failed(f"it was answered {exchange.said}; expected 422")
    require_message(exchange)


@check(
    "errors.missing-uuid",
    "a request without a uuid is a 4xx",
    "Without a uuid a repeat cannot be told from a new add-on.",
)
def missing_uuid(run: Run) -> None:
    order = run.order()
    del order["uuid"]
    require_refusal(run.client.send("POST", "", order), "a provision without uuid")


@check(
    "errors.missing-plan",
    "a request without a plan is a 4xx",
    "A plan that the provider chose itself is one that nobody ordered.",
)
def missing_plan(run: Run) -> None:
    order = run.order()
    del order["plan"]
    require_refusal(run.post(order), "a provision without plan")


@check(
    "errors.malformed-json",
    "what is no JSON, and JSON that is no object, is a 4xx",
    "A 5xx is tried again, for a day.",
)
def malformed_json(run: Run) -> None:
    for body in (b"{", b"[]", b'"plan"', b""):
        require_refusal(run.client.send("POST", "", body), "a body that is no JSON object")


@check(
    "errors.odd-ids",
    "an id in the path that is no uuid is a 404 or another 4xx",
    "A 5xx for a mistyped path is an alarm at night, and often a query with the text in it.",
)
def odd_ids(run: Run) -> None:
    for text in ("nosuch", "0", "%27%3B--", f"{uuid4()}x"):
        require_refusal(run.put(text, {"plan": run.subject.plan}), "a plan change of an odd id")
        require_refusal(run.delete(text), "a deprovision of an odd id")
