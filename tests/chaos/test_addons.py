"""Processes of a platform or of its provider are killed at every step of an add-on's life: both
sides agree again within seconds, without an orphan, a duplicate, or a key too many or too few.

`make chaos-addons` kills at every step; here is one life. How long it took until they agreed is
printed at the end.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import httpx
import pytest

from tests.addon.crash_points import (
    ASYNC,
    DEPROVISIONING,
    PLAN_CHANGE,
    PROVISIONING,
    SYNC,
    step_of,
)
from tests.addon.two_deployments import (
    BACKGROUND,
    FIRST_PLAN,
    OTHER_PLAN,
    Both,
    Deployment,
    is_up,
    running_both,
    wait_for,
)

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(300)]  # whose tables are copied

IS_WHOLE = "CHAOS_HASTE" in os.environ
HASTE = float(os.environ.get("CHAOS_HASTE", "0.2"))
# A lease, or the wait after a failure, and then the reconciler's period. A second death comes upon
# a second lease, which is twice as long. Who asks in vain waits twice as long each time, so about
# as long again as nobody answered.
LEASE_S, PERIOD_S = 10 * HASTE, 5 * HASTE
SLACK_S = 10.0  # for the work itself, on a machine that does other things too

NOTICED_AFTER_S = 0.3  # by its supervisor; until then its pid is there

Points = tuple[str, ...]

# Whoever takes over dies too: the worker, which then does what a request had begun.
PROVISIONING_TWICE: tuple[Points, ...] = tuple(
    ("platform.provisioning.drive_provisioning before", point)
    for point in (
        "platform.partner_tokens.issue_grant after",
        "platform.provider_client.provision after",
        "platform.provisioning._wait_for_provider before",
        "provider.provisioning.provision after",
    )
)
PLAN_CHANGE_TWICE: tuple[Points, ...] = tuple(
    ("platform.provider_client.change_plan after", point)
    for point in (
        "platform.plan_changes._lease after",
        "platform.provider_client.change_plan after",
        "provider.provisioning.put_on_plan after",
    )
)
DEPROVISIONING_TWICE: tuple[Points, ...] = tuple(
    ("platform.provisioning.drive_deprovisioning before", point)
    for point in (
        "platform.provider_client.deprovision after",
        "provider.provisioning.end after",
    )
)


@dataclass(frozen=True, kw_only=True)
class Life:
    """Of an add-on: where somebody dies while it is ordered, changed and destroyed."""

    is_async: bool
    provisioning: Points = ()
    plan_change: Points = ()
    deprovisioning: Points = ()

    def __str__(self) -> str:
        steps = (self.provisioning, self.plan_change, self.deprovisioning)
        deaths = "; ".join(" and ".join(points) or "nobody" for points in steps)
        return f"{'async' if self.is_async else 'sync'}: {deaths}"


def lives(*, is_async: bool) -> list[Life]:
    others = SYNC if is_async else ASYNC

    def reached(single: Sequence[str], twice: Sequence[Points]) -> list[Points]:
        deaths = [*((point,) for point in single), *twice]
        return [death for death in deaths if not others & {step_of(point) for point in death}]

    deaths = zip_longest(
        reached(PROVISIONING, PROVISIONING_TWICE),
        reached(PLAN_CHANGE, PLAN_CHANGE_TWICE),
        reached(DEPROVISIONING, DEPROVISIONING_TWICE),
        fillvalue=(),
    )
    return [
        Life(is_async=is_async, provisioning=one, plan_change=two, deprovisioning=three)
        for one, two, three in deaths
    ]


WHOLE = [*lives(is_async=True), *lives(is_async=False)]
# The provider's worker, the platform's web process, and this and the platform's worker.
OF_THE_TEST_SUITE = [
    Life(
        is_async=True,
        provisioning=("provider.grants._store before",),
        plan_change=("platform.partner_actions.update_config after",),
        deprovisioning=DEPROVISIONING_TWICE[0],
    )
]


@dataclass(kw_only=True)
class Campaign:
    both: Both
    count: int = 0
    took_s: list[tuple[float, Points]] = field(default_factory=list)
    down_s: list[float] = field(default_factory=list)


@pytest.fixture(scope="module")
def campaign(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Campaign]:
    with running_both(tmp_path_factory.mktemp("deployments"), django_db_blocker, HASTE) as both:
        campaign = Campaign(both=both)
        yield campaign
        _report(campaign)


@pytest.mark.parametrize("life", WHOLE if IS_WHOLE else OF_THE_TEST_SUITE, ids=str)
def test_both_sides_agree_whoever_is_killed(campaign: Campaign, life: Life) -> None:
    both = campaign.both
    campaign.count += 1
    name, alias = f"killed-{campaign.count}", f"KILLED_{campaign.count}"
    path = f"/apps/shop/addons/{name}"
    both.provider.set_async_operations(BACKGROUND if life.is_async else ())

    def change() -> httpx.Response:
        return both.platform.call("PATCH", path, {"plan": OTHER_PLAN})

    def plan() -> str:
        return str(both.platform.call("GET", path).json()["plan"]["name"])

    _kill(campaign, life.provisioning, lambda: both.order(name, alias))
    assert both.state(name) == "provisioned"
    key = both.config()[f"{alias}_KEY"]
    made = "SELECT count(*) FROM provider_credential"
    assert both.provider.rows(made) == [(campaign.count,)]

    _kill(campaign, life.plan_change, change)
    if plan() == FIRST_PLAN:  # nothing came of it
        _kill(campaign, (), change)
    assert plan() == OTHER_PLAN
    assert both.config()[f"{alias}_MODEL_ID"] == "cohere-embed-multilingual"
    assert both.config()[f"{alias}_KEY"] == key

    _kill(campaign, life.deprovisioning, lambda: both.platform.call("DELETE", path))
    assert both.state(name) == "404"
    assert not both.accepts(key)
    assert f"{alias}_KEY" not in both.config()
    told = [release for release in both.releases() if name in release]
    assert told == [
        f"Attach {alias} ({name})",
        f"Change plan of {name} to {OTHER_PLAN}",
        f"Detach {alias} ({name})",
    ]


def _kill(campaign: Campaign, points: Points, act: Callable[[], httpx.Response]) -> None:
    """Act; whoever reaches the points dies there; then wait until both sides agree."""
    both = campaign.both
    doomed = {point: _side(both, point) for point in points}
    for side in {id(side): side for side in doomed.values()}.values():
        mine = [point for point in points if doomed[point] is side]
        side.crash_at.write_text("\n".join(mine))
    with suppress(httpx.HTTPError):  # of a process that is killed
        act()
    wait_for(
        lambda: not any(_left(side) for side in doomed.values()),
        f"it did not come to {[_left(side) for side in doomed.values()]}",
    )
    died_at = time.monotonic()
    time.sleep(NOTICED_AFTER_S)
    for side in doomed.values():
        wait_for(lambda side=side: is_up(side), "it was not started anew")  # type: ignore[misc]
    up_at = time.monotonic()
    waits_s = LEASE_S * max(1, 2 * (len(points) - 1)) + 2 * (up_at - died_at) + PERIOD_S
    both.wait_for_agreement(waits_s + SLACK_S)
    if points:
        campaign.took_s.append((time.monotonic() - up_at, points))
        campaign.down_s.append(up_at - died_at)


def _side(both: Both, point: str) -> Deployment:
    return both.platform if point.startswith("platform") else both.provider


def _left(side: Deployment) -> str:
    return side.crash_at.read_text() if side.crash_at.exists() else ""


def _report(campaign: Campaign) -> None:
    took = sorted(campaign.took_s)
    if took:
        longest, points = took[-1]
        print(  # noqa: T201 - what `make chaos-addons` is run for
            f"\n{sum(len(points) for _, points in took)} deaths in {campaign.count} lives; once "
            f"everything ran again, both sides agreed after {took[len(took) // 2][0]:.1f} s "
            f"(median), {longest:.1f} s (longest: {' and '.join(points)}); it was down for up to "
            f"{max(campaign.down_s):.1f} s"
        )
