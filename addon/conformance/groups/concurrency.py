"""Requests that come at the same moment."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from addon.conformance.checks import Failed, check
from addon.conformance.exchanges import Exchange
from addon.conformance.run import Run

PARALLEL = 8
# A provider may ask to try again while it is busy with the same uuid.
BUSY = frozenset({409, 423, 429, 503})


def at_once(calls: Sequence[Callable[[], Exchange]]) -> list[Exchange]:
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


def distinct(values: Sequence[object]) -> int:
    return len({repr(value) for value in values})


@check(
    "concurrency.same-uuid",
    "one uuid, eight times at once, makes one resource",
    "A platform that lost patience sends again while the first request still runs.",
)
def same_uuid(run: Run) -> None:
    order = run.order()
    exchanges = at_once([lambda: run.post(order)] * PARALLEL)
    odd = [each.said for each in exchanges if not each.is_success and each.status not in BUSY]
    if odd:
        raise Failed(f"{len(odd)} of {PARALLEL} were answered {odd[0]}")
    done = [each for each in exchanges if each.is_success]
    if not done:
        raise Failed("none of them was served")
    if distinct([each.body.get("id") for each in done]) > 1:
        raise Failed("they were answered with several ids")
    configs = [each.body["config"] for each in done if "config" in each.body]
    if distinct(configs) > 1:
        raise Failed("they were answered with several configs")


@check(
    "concurrency.different-uuids",
    "eight uuids at once make eight resources, with a config each",
    "Customers who share credentials read each other's data.",
)
def different_uuids(run: Run) -> None:
    orders = [run.order() for _ in range(PARALLEL)]
    exchanges = at_once([lambda order=order: run.post(order) for order in orders])  # type: ignore[misc]
    odd = [each.said for each in exchanges if not each.is_success]
    if odd:
        raise Failed(f"{len(odd)} of {PARALLEL} were answered {odd[0]}")
    if distinct([each.body.get("id") for each in exchanges]) < PARALLEL:
        raise Failed("several have the same id")
    configs = [each.body["config"] for each in exchanges if "config" in each.body]
    if configs and distinct(configs) < len(configs):
        raise Failed("several have the same config")


@check(
    "concurrency.deprovision",
    "one deprovision, four times at once, is 2xx or 410 each time",
    "The platform repeats it until it is sure, and a 5xx keeps it from being sure.",
)
def deprovision(run: Run) -> None:
    uuid = run.provision().uuid
    exchanges = at_once([lambda: run.delete(uuid)] * 4)
    fine = {410, *BUSY}
    odd = [each.said for each in exchanges if not each.is_success and each.status not in fine]
    if odd:
        raise Failed(f"{len(odd)} of 4 were answered {odd[0]}")
    if not any(each.is_success for each in exchanges):
        raise Failed("none of them was answered 2xx")
