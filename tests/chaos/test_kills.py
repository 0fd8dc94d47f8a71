"""Rounds in which processes are killed at every step of a request: nothing is lost or billed twice.

`make chaos` runs 200 of them; here are a few. A round is drawn from its seed, so `make chaos
SEED=n ROUNDS=1` runs the n-th again.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.chaos.audit import (
    Row,
    Vectors,
    audit,
    audit_counts,
    audit_sums,
    read_counts,
    read_rows,
)
from tests.chaos.clients import Client, Exchange, open_http
from tests.chaos.deployment import Attachment, Deployment, running_deployment
from tests.chaos.schedule import (
    REQUESTS,
    TEXTS_MAX,
    Request,
    Schedule,
    combinations,
    make_request,
    make_schedule,
)

ROUNDS_OF_A_CAMPAIGN = 200
# All but the last with workers that start fast; make_schedule says what is killed.
SEEDS_OF_THE_TEST_SUITE = (4, 11, 13, 22, 37, 46, 50, 55)
UNIT_WITHIN = 1e-3
# After this, whatever a dead process held has lapsed: its request's time, and haste.py's margin.
LAPSED_AFTER_S = 5.0
# For so long after Valkey's death a web process may count by itself.
UNCOUNTED_S = 10.0


def _seeds() -> tuple[int, ...]:
    if "CHAOS_ROUNDS" not in os.environ:
        return SEEDS_OF_THE_TEST_SUITE
    first = int(os.environ["CHAOS_SEED"])
    return tuple(range(first, first + int(os.environ["CHAOS_ROUNDS"])))


@dataclass(kw_only=True)
class Campaign:
    """A deployment, attachments for rounds to come, and what came of those that were."""

    deployment: Deployment
    attachments: list[Attachment]
    expected: dict[str, Vectors] = field(default_factory=dict)
    rows: dict[Attachment, list[Row]] = field(default_factory=dict)
    residual: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    planned: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0

    def note(self, schedule: Schedule, exchanges: Sequence[Exchange]) -> None:
        self.planned.update(fault.name for fault in schedule.faults)
        for attempt in (attempt for exchange in exchanges for attempt in exchange.attempts):
            self.attempts[attempt.outcome] += 1
            self.longest_s = max(self.longest_s, attempt.took_s)


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    pools = {make_schedule(seed).pool for seed in _seeds()}
    with running_deployment(pools, attachments=len(_seeds()) + len(pools)) as (deployment, made):
        campaign = Campaign(deployment=deployment, attachments=made)
        for pool in pools:
            campaign.expected[pool] = _ask_in_peace(campaign, pool)
        yield campaign
        _report(campaign)


@pytest.mark.parametrize("seed", _seeds())
def test_every_answer_is_billed_once_whoever_is_killed(campaign: Campaign, seed: int) -> None:
    schedule = make_schedule(seed)
    deployment = campaign.deployment
    attachment = campaign.attachments.pop()
    deployment.serve_from(schedule.pool)
    logs, began_at = deployment.log_sizes(), time.time()
    exchanges = asyncio.run(_run(deployment, schedule, attachment))
    rows, counts = read_rows(deployment, attachment), read_counts(deployment, attachment)
    deaths = [death for death in deployment.deaths if death[0] >= began_at]
    findings = audit(
        exchanges,
        rows,
        web_deaths=[at for at, name in deaths if name.startswith("web")],
        web_log=deployment.read_logs(logs, "web"),
        expected=campaign.expected[schedule.pool],
    )
    findings.wrong += audit_counts(
        counts,
        rows,
        may_be_held=any(name.startswith(("web", "valkey")) for _, name in deaths),
        may_be_uncounted=deployment.has_lost("valkey", since=began_at - UNCOUNTED_S),
    )
    findings.wrong += audit_sums(deployment, attachment, rows)
    campaign.rows[attachment] = rows
    campaign.residual += findings.residual
    campaign.note(schedule, exchanges)
    if findings.wrong:
        logged = deployment.last_lines(logs)
        pytest.fail(_tell(schedule, findings.wrong, deaths, logged, began_at), pytrace=False)


def test_in_the_end_nothing_came_later_and_what_is_spent_is_what_is_billed(
    campaign: Campaign,
) -> None:
    """Once leases have lapsed, the next request of a customer finds spend as the ledger has it."""
    deployment = campaign.deployment
    for attachment, rows in campaign.rows.items():
        assert read_rows(deployment, attachment) == rows
    time.sleep(LAPSED_AFTER_S)
    asyncio.run(_ask_once_more(deployment, list(campaign.rows)))
    drift = {}
    for attachment in campaign.rows:
        billed = sum(row.cost_picounits for row in read_rows(deployment, attachment))
        counts = read_counts(deployment, attachment)
        if counts.spend != billed or counts.holds:
            drift[attachment.id] = billed, counts
    assert not drift


def test_a_campaign_meets_every_step() -> None:
    seeds = range(1, ROUNDS_OF_A_CAMPAIGN + 1)
    met = {combinations()[seed % len(combinations())] for seed in seeds}
    assert met == set(combinations())


async def _run(
    deployment: Deployment, schedule: Schedule, attachment: Attachment
) -> list[Exchange]:
    deployment.faults.arm(schedule.armed)
    async with open_http() as http:
        client = Client(http, deployment.urls, attachment.key, schedule.seed)
        kills = [
            asyncio.create_task(_kill_later(deployment, at_s, victim))
            for at_s, victim in schedule.kills
        ]
        exchanges = await asyncio.gather(*map(client.exchange, schedule.requests))
        await asyncio.gather(*kills)
    deployment.faults.arm(())
    return list(exchanges)


async def _kill_later(deployment: Deployment, at_s: float, victim: str) -> None:
    await asyncio.sleep(at_s)
    await asyncio.to_thread(deployment.faults.kill, victim)


def _ask_in_peace(campaign: Campaign, pool: str) -> Vectors:
    """The vectors of all that any round asks, while nothing is killed."""
    deployment = campaign.deployment
    attachment = campaign.attachments.pop()
    deployment.serve_from(pool)
    requests = tuple(
        make_request(number, texts=texts, key=f"{number}-{texts}")
        for number in range(REQUESTS)
        for texts in range(1, TEXTS_MAX + 1)
    )
    peace = Schedule(seed=0, pool=pool, requests=requests)
    exchanges = asyncio.run(_run(deployment, peace, attachment))
    unanswered = [exchange for exchange in exchanges if not exchange.answers]
    assert not unanswered, f"{unanswered[0]}\n{deployment.last_lines({})}"
    vectors = {exchange.request.words: exchange.vectors() for exchange in exchanges}
    for several in vectors.values():
        assert np.allclose(np.linalg.norm(several, axis=1), 1, atol=UNIT_WITHIN)
    assert len({several.tobytes() for several in vectors.values()}) == len(vectors)
    return vectors


async def _ask_once_more(deployment: Deployment, attachments: Sequence[Attachment]) -> None:
    request = Request(number=0, words=(1,), key="once-more")
    async with open_http() as http:
        for attachment in attachments:
            client = Client(http, deployment.urls, attachment.key, seed=0)
            assert (await client.exchange(request)).answers


def _report(campaign: Campaign) -> None:
    deaths = Counter(name for _, name in campaign.deployment.deaths)
    fired = {path.name for path in campaign.deployment.faults.fired.iterdir()}
    missed = sorted(campaign.planned.keys() - fired)
    reached = len(campaign.planned) - len(missed)
    print(  # noqa: T201 - what `make chaos` is run for
        f"\n{len(campaign.rows)} rounds; {reached} of {len(campaign.planned)} faults were "
        f"reached (not: {', '.join(missed) or 'none'})\nfound dead: {dict(deaths)}\n"
        f"attempts: {dict(campaign.attempts)}, the longest took {campaign.longest_s:.1f} s\n"
        f"rows: {sum(map(len, campaign.rows.values()))}; without a delivered answer: "
        f"{dict(campaign.residual) or 'none'}"
    )


def _tell(
    schedule: Schedule,
    wrong: list[str],
    deaths: list[tuple[float, str]],
    logs: str,
    began_at: float,
) -> str:
    died = "\n".join(f"  {at - began_at:.3f} s: {name} was found dead" for at, name in deaths)
    listed = "\n".join(f"* {finding}" for finding in wrong)
    again = f"make chaos SEED={schedule.seed} ROUNDS=1"
    return f"{listed}\n\n{schedule}\n{died}\n\n{logs}\n\n{listed}\nagain: {again}"
