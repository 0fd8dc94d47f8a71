"""202 now, callbacks later: the suite is the platform that is called back."""

from addon.conformance.checks import Failed, Skipped, Warned, check
from addon.conformance.groups.config import require_declared, require_strings, require_urls
from addon.conformance.groups.repeats import require_same
from addon.conformance.platform_server import Callback, OrderedAddon
from addon.conformance.run import Asked, Run


def plan_of(run: Run) -> str:
    """Raises Skipped where no plan is asynchronous."""
    if run.subject.async_plan is not None:
        return run.subject.async_plan
    if run.shared_ask(run.subject.plan).answer.status == 202:
        return run.subject.plan
    raise Skipped("no plan is said to be asynchronous: api.annex.plans[].async, or --async-plan")


def asked(run: Run) -> Asked:
    return run.shared_ask(plan_of(run))


def accepted_one(run: Run) -> OrderedAddon:
    """Raises Skipped when it was not even answered 202."""
    first = asked(run)
    if first.answer.status != 202:
        raise Skipped("it was not answered 202")
    return first.addon


def refusals(calls: list[Callback]) -> str:
    problems = [call.problem for call in calls if call.problem]
    return f": {problems[-1]}" if problems else ""


@check(
    "async.accepted",
    "it is answered 202, with an id and without config",
    "202 says that config vars come later; those in the answer itself are dropped.",
)
def accepted(run: Run) -> None:
    answer = asked(run).answer
    if answer.status != 202:
        raise Failed(f"it was answered {answer.said}; expected 202")
    if not answer.body.get("id"):
        raise Failed("the answer has no id")
    if answer.body.get("config"):
        raise Failed("the answer has config: it belongs to PATCH /addons/:uuid/config")


@check(
    "async.grant",
    "the grant is exchanged at POST /oauth/token, with the client secret",
    "Without an access token a provider cannot call back, and after five minutes it gets none.",
)
def grant(run: Run) -> None:
    addon = accepted_one(run)
    exchanges = addon.of_kind("token")
    if not exchanges:
        raise Failed("no grant was exchanged")
    if not addon.accepted("token"):
        raise Failed(f"the exchange was refused{refusals(exchanges)}")


@check(
    "async.config",
    "config comes by PATCH /addons/:uuid/config: declared names, strings, with the access token",
    "It is the only way to the customer's app.",
)
def config(run: Run) -> None:
    addon = accepted_one(run)
    if not addon.accepted("config"):
        raise Failed(f"no config was accepted{refusals(addon.of_kind('config'))}")
    require_declared(run, addon.config)
    require_strings(addon.config)
    require_urls(run, addon.config)


@check(
    "async.finished",
    "POST /addons/:uuid/actions/provision says that it is ready",
    "Without it the add-on is given up after twelve hours, and the customer has nothing.",
)
def finished(run: Run) -> None:
    addon = accepted_one(run)
    if not addon.accepted("provision"):
        raise Failed(f"it did not come, or was refused{refusals(addon.of_kind('provision'))}")


@check(
    "async.order",
    "actions/provision comes after the config",
    "It releases the app: without its config vars the app starts broken.",
)
def order(run: Run) -> None:
    kinds = [call.kind for call in accepted_one(run).callbacks]
    if "provision" not in kinds:
        raise Skipped("actions/provision did not come")
    if "config" not in kinds[: kinds.index("provision")]:
        raise Failed("actions/provision came before any config")


@check(
    "async.authorised",
    "every callback has the access token of its add-on",
    "A token of another add-on opens nothing, and a callback without one is lost.",
)
def authorised(run: Run) -> None:
    refused = [call for call in accepted_one(run).callbacks if call.status == 401]
    if refused:
        raise Failed(f"{len(refused)} came without it, the first was {refused[0].kind}")


@check(
    "async.repeat",
    "the same request again is the same resource, and its config stays",
    "The 202 may have been lost; the callbacks of a second resource would overwrite the first's.",
)
def repeat(run: Run) -> None:
    plan, addon = plan_of(run), accepted_one(run)
    if not asked(run).is_finished:
        raise Skipped("it was never finished")
    resource, before = run.shared(plan), dict(addon.config)
    require_same(resource, run.post(resource.order))
    if addon.config != before:
        raise Failed("the config changed")


@check(
    "async.retry",
    "a callback that was answered 503 is sent again",
    "The platform has maintenance, too; an add-on that is not confirmed in 12 hours is removed.",
)
def retry(run: Run) -> None:
    order = run.order(plan_of(run))
    uuid = str(order["uuid"])
    run.addon(uuid).configs_to_refuse = 1
    exchange = run.post(order)
    if exchange.status != 202:
        raise Skipped(f"it was answered {exchange.said} this time")
    addon, within_s = run.addon(uuid), run.subject.callbacks_within_s
    if not run.platform.wait(lambda: bool(addon.of_kind("config")), within_s):
        raise Failed(f"no config came within {within_s:g} s")
    if not run.platform.wait(lambda: bool(addon.accepted("config")), within_s):
        raise Warned(f"it did not come again within {within_s:g} s (--callbacks-within)")
    run.await_callback(addon, "provision")


@check(
    "async.deprovision-early",
    "a resource can be deprovisioned before it is ready, and is 410 then",
    "Customers change their mind; what is finished afterwards is an orphan.",
)
def deprovision_early(run: Run) -> None:
    order = run.order(plan_of(run))
    exchange = run.post(order)
    if not exchange.is_success:
        raise Failed(f"the provision was answered {exchange.said}")
    run.deprovision(str(order["uuid"]))
    repeat = run.post(order)
    if repeat.status != 410:
        raise Failed(f"the same uuid again was answered {repeat.said}; expected 410")
