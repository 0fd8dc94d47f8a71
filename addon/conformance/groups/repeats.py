"""A platform sends requests again when an answer was lost: the uuid tells that it is the same."""

from collections.abc import Mapping

from addon.conformance.checks import Failed, Skipped, check
from addon.conformance.exchanges import Exchange
from addon.conformance.run import Resource, Run

REFUSALS = frozenset({400, 409, 422})


def require_same(resource: Resource, repeat: Exchange) -> None:
    """Raises Failed unless `repeat` is the answer of the first request."""
    if not repeat.is_success:
        raise Failed(f"the repeat was answered {repeat.said}; expected 200 or 201")
    if repeat.body.get("id") != resource.provider_id:
        raise Failed("the repeat was answered with another id: a second resource was made")
    config = repeat.body.get("config")
    if repeat.status != 202 and config != resource.config:
        raise Failed(f"the repeat was answered with another config: {_differing(resource, config)}")


def _differing(resource: Resource, config: object) -> str:
    other: Mapping[str, object] = config if isinstance(config, Mapping) else {}
    names = {*resource.config, *other}
    return ", ".join(sorted(name for name in names if resource.config.get(name) != other.get(name)))


@check(
    "repeats.same",
    "the same request again gets the same answer, the same keys included",
    "The first answer may have been lost: two resources would be billed, or the key be dead.",
)
def same(run: Run) -> None:
    resource = run.shared()
    require_same(resource, run.post(resource.order))


@check(
    "repeats.other-name",
    "a repeat with another name and another grant is the same resource",
    "Names are the user's to change, and grants expire; only the uuid identifies an add-on.",
)
def other_name(run: Run) -> None:
    resource = run.shared()
    require_same(resource, run.post({**resource.order, "name": "renamed", "oauth_grant": None}))


@check(
    "repeats.other-content",
    "the same uuid with another plan is refused",
    "A provider that answers 200 says that the customer has a plan which it does not have.",
)
def other_content(run: Run) -> None:
    resource, plan = run.shared(), run.subject.other_plan
    if plan is None:
        raise Skipped("one plan only is known: name another with --change-to")
    repeat = run.post({**resource.order, "plan": plan})
    if repeat.status not in REFUSALS:
        raise Failed(f"it was answered {repeat.said}; expected 409 or 422")


@check(
    "repeats.unharmed",
    "what was refused changed nothing",
    "The customer's add-on has to go on as it was.",
)
def unharmed(run: Run) -> None:
    resource = run.shared()
    require_same(resource, run.post(resource.order))
