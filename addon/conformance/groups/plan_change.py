"""`PUT /heroku/resources/:uuid`."""

from uuid import uuid4

from addon.conformance.checks import Failed, Skipped, check
from addon.conformance.exchanges import Exchange
from addon.conformance.groups.config import (
    read_config,
    require_declared,
    require_strings,
    require_urls,
)
from addon.conformance.groups.errors import require_message
from addon.conformance.run import GONE, Resource, Run

UNKNOWN_PLAN = "conformance-no-such-plan"


def change(run: Run, resource: Resource, plan: str) -> Exchange:
    """Awaited if the provider answers 202. Raises Failed when it is refused."""
    addon = run.addon(resource.uuid)
    callbacks = len(addon.callbacks)
    exchange = run.put(resource.uuid, {"plan": plan})
    if not exchange.is_success:
        raise Failed(f"to {plan}: answered {exchange.said}; expected 200 or 202")
    if exchange.status == 202:
        run.await_callback(addon, "provision", after=callbacks)
    return exchange


def other_plan(run: Run) -> str:
    if run.subject.other_plan is None:
        raise Skipped("one plan only is known: name another with --change-to")
    return run.subject.other_plan


@check(
    "plan-change.status",
    "another plan is answered 200 or 202, and so is the way back",
    "A plan that cannot be left keeps customers from buying it.",
)
def status(run: Run) -> None:
    resource, plan = run.shared(), other_plan(run)
    change(run, resource, plan)
    change(run, resource, run.subject.plan)


@check(
    "plan-change.answer",
    "id and config of the answer, if they are there, are as at the provision",
    "The id of an add-on is for ever; config vars of the answer go to the app as they are.",
)
def answer(run: Run) -> None:
    resource, plan = run.shared(), other_plan(run)
    exchange = change(run, resource, plan)
    change(run, resource, run.subject.plan)
    if exchange.body.get("id", resource.provider_id) != resource.provider_id:
        raise Failed("the answer has another id")
    written = exchange.body.get("config")
    if written is None:
        return
    config = read_config(written)
    require_declared(run, config)
    require_strings(config)
    require_urls(run, config)


@check(
    "plan-change.same-plan",
    "the plan that it has again is answered 2xx",
    "The platform repeats a plan change whose answer was lost.",
)
def same_plan(run: Run) -> None:
    resource = run.shared()
    for _ in range(2):
        change(run, resource, run.subject.plan)


@check(
    "plan-change.unknown-plan",
    "an unknown plan is a 422 with a message",
    "A provider and a platform that disagree about the plans have to find out before they bill.",
)
def unknown_plan(run: Run) -> None:
    exchange = run.put(run.shared().uuid, {"plan": UNKNOWN_PLAN})
    if exchange.status != 422:
        raise Failed(f"it was answered {exchange.said}; expected 422")
    require_message(exchange)


@check(
    "plan-change.no-plan",
    "a body without a plan is a 4xx",
    "What is not understood must not look done.",
)
def no_plan(run: Run) -> None:
    exchange = run.put(run.shared().uuid, {})
    if exchange.status is None or not 400 <= exchange.status < 500:
        raise Failed(f"it was answered {exchange.said}; expected 422")


@check(
    "plan-change.unknown-resource",
    "a resource that there is not is a 404 or 410",
    "A 200 would have the platform bill for what does not exist.",
)
def unknown_resource(run: Run) -> None:
    exchange = run.put(str(uuid4()), {"plan": run.subject.plan})
    if exchange.status not in GONE:
        raise Failed(f"it was answered {exchange.said}; expected 404 or 410")
