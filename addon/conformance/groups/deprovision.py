"""`DELETE /heroku/resources/:uuid`, and the tombstone that stays."""

from uuid import uuid4

from addon.conformance.checks import Failed, check
from addon.conformance.groups.authentication import require_401, wrong
from addon.conformance.groups.repeats import require_same
from addon.conformance.run import GONE, Resource, Run


def removed(run: Run) -> Resource:
    resource = run.provision()
    run.deprovision(resource.uuid)
    return resource


@check(
    "deprovision.status",
    "it is answered 200, 202 or 204, and a 202 is followed by its callback",
    "Until then the platform asks again.",
)
def status(run: Run) -> None:
    removed(run)


@check(
    "deprovision.delete-again",
    "a second DELETE is a 410",
    "The platform repeats it when the first answer was lost; 410 says that it is done.",
)
def delete_again(run: Run) -> None:
    exchange = run.delete(removed(run).uuid)
    if exchange.status != 410:
        raise Failed(f"it was answered {exchange.said}; expected 410")


@check(
    "deprovision.plan-change-after",
    "a plan change afterwards is a 410",
    "What is gone has no plan.",
)
def plan_change_after(run: Run) -> None:
    exchange = run.put(removed(run).uuid, {"plan": run.subject.plan})
    if exchange.status != 410:
        raise Failed(f"it was answered {exchange.said}; expected 410")


@check(
    "deprovision.provision-after",
    "the same uuid is never provisioned again, but a 410",
    "A provision that was delayed on its way must not bring back what the customer deleted.",
)
def provision_after(run: Run) -> None:
    exchange = run.post(removed(run).order)
    if exchange.status != 410:
        raise Failed(f"it was answered {exchange.said}; expected 410")


@check(
    "deprovision.authentication-after",
    "wrong credentials are a 401 there, too",
    "kensa looks for it: what is gone is still nobody's business.",
)
def authentication_after(run: Run) -> None:
    require_401(run.delete(removed(run).uuid, auth=wrong(run)), "of a deprovisioned resource")


@check(
    "deprovision.others-stay",
    "other resources are as they were",
    "One customer's goodbye must not be another's outage.",
)
def others_stay(run: Run) -> None:
    resource = run.shared()
    removed(run)
    require_same(resource, run.post(resource.order))


@check(
    "deprovision.unknown",
    "a uuid that was never there is a 404 or 410",
    "An order that was refused, or never came, must be removable.",
)
def unknown(run: Run) -> None:
    exchange = run.delete(str(uuid4()))
    if exchange.status not in GONE:
        raise Failed(f"it was answered {exchange.said}; expected 404 or 410")
