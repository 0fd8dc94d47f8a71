"""What a platform may send, or leave out, without notice."""

from uuid import uuid4

from addon.conformance.checks import Failed, check
from addon.conformance.exchanges import Exchange
from addon.conformance.run import Run


def require_success(exchange: Exchange) -> None:
    if not exchange.is_success:
        raise Failed(f"{exchange.name} was answered {exchange.said}; expected 200, 201 or 202")


@check(
    "tolerance.unknown-fields",
    "unknown fields are ignored",
    'Heroku adds fields at any time: "such requests should be treated as valid".',
)
def unknown_fields(run: Run) -> None:
    unknown = {"heroku_id": "app1234@kensa.heroku.com", "logplex_token": None, "new_field": [1]}
    require_success(run.post({**run.order(), **unknown}))


@check(
    "tolerance.no-grant",
    "a request without oauth_grant and name is served",
    "kensa sends neither, and a grant is null where a platform has no OAuth.",
)
def no_grant(run: Run) -> None:
    order = run.order()
    del order["oauth_grant"], order["name"]
    require_success(run.post(order))
    require_success(run.post({**run.order(), "oauth_grant": None}))


@check(
    "tolerance.options",
    "an unknown option is ignored, or refused with a message",
    "Heroku hands over what the user typed; what fails must say which option it was.",
)
def options(run: Run) -> None:
    options = {**run.subject.options, "conformance-no-such-option": "true"}
    exchange = run.post({**run.order(), "options": options})
    if not exchange.is_success and not (exchange.status == 422 and exchange.message):
        raise Failed(f"it was answered {exchange.said}; expected 2xx, or 422 with a message")


@check(
    "tolerance.plain-accept",
    "a plain Accept header is served",
    "kensa sends application/json, proxies and curl send */*; a 406 left add-ons undeletable.",
)
def plain_accept(run: Run) -> None:
    for accept in ("application/json", "*/*"):
        order = run.order()
        require_success(run.post(order, accept=accept))
        require_success(run.delete(str(order["uuid"]), accept=accept))


@check(
    "tolerance.plan-change-fields",
    "a plan change with unknown fields, another uuid among them, is served",
    "kensa sends a fresh uuid in the body; the one in the path is the resource's.",
)
def plan_change_fields(run: Run) -> None:
    resource = run.shared()
    body = {"plan": run.subject.plan, "heroku_id": "app1234@kensa.heroku.com", "uuid": str(uuid4())}
    require_success(run.put(resource.uuid, body))
