"""Rounds: who hangs holds up nobody else, and nobody for long."""

import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
from django.db import connection

from addon import rounds
from addon.rounds import Step, attend
from billing.advisory_locks import alone

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE_S = 0.1


@dataclass(kw_only=True)
class Work:
    """Rows that are due until they were run; those of "hanging" end when the test does."""

    due: list[tuple[str, int]] = field(default_factory=list)
    begun: list[tuple[str, int]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def find(self, but_of: Collection[str], limit: int) -> list[Step]:
        left = [row for row in self.due if row not in self.begun and row[0] not in but_of]
        return [
            Step(partner=row[0], row_id=row, run=partial(self.run, row)) for row in left[:limit]
        ]

    def run(self, row: tuple[str, int]) -> None:
        self.begun.append(row)
        if row[0] == "hanging":
            self.ended.wait(10)

    def begun_of(self, partner: str) -> int:
        return [begun for begun, _ in self.begun].count(partner)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    monkeypatch.setattr(rounds, "PATIENCE_S", PATIENCE_S)
    monkeypatch.setattr(rounds, "LOOK_AGAIN_S", 0.02)
    work = Work()
    yield work
    work.ended.set()


def in_thread(work: Work) -> threading.Thread:
    thread = threading.Thread(target=attend, args=(work.find,))
    thread.start()
    return thread


def wait_for_begun(work: Work, partner: str, count: int) -> None:
    deadline = time.monotonic() + 5
    while work.begun_of(partner) < count:
        assert time.monotonic() < deadline, work.begun
        time.sleep(0.01)


def test_everything_that_is_due_is_run(work: Work) -> None:
    work.due = [(partner, number) for number in range(20) for partner in ("one", "other")]
    attend(work.find)
    assert sorted(work.begun) == sorted(work.due)


def test_a_partner_that_hangs_holds_up_itself(work: Work) -> None:
    work.due = [("hanging", number) for number in range(100)]
    work.due += [("healthy", number) for number in range(20)]
    thread = in_thread(work)
    wait_for_begun(work, "healthy", 20)
    time.sleep(2 * PATIENCE_S)
    work.due.append(("healthy", 20))  # what becomes due meanwhile does not wait either
    wait_for_begun(work, "healthy", 21)
    assert thread.is_alive()
    work.ended.set()
    thread.join(5)
    # Those that were begun before it was known; the rest waits for the next round.
    assert work.begun_of("hanging") == rounds.AT_ONCE_OF_A_PARTNER


def test_a_round_ends_in_time_all_the_same(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ROUND_S", 0.3)
    work.due = [("hanging", 0)]
    began = time.monotonic()
    attend(work.find)
    assert 0.3 <= time.monotonic() - began < 3
    assert not work.ended.is_set()


def test_one_rows_trouble_is_not_the_next_ones(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    def stumble() -> None:
        work.begun.append(("bad", 0))
        raise RuntimeError("a bug")

    def find(but_of: Collection[str], limit: int) -> list[Step]:
        bad = [] if ("bad", 0) in work.begun else [Step(partner="bad", row_id="bad", run=stumble)]
        return bad + work.find(but_of, limit)

    work.due = [("healthy", 0)]
    attend(find)
    assert sorted(work.begun) == [("bad", 0), ("healthy", 0)]
    assert "a bug" in caplog.text


def test_what_stays_due_is_not_run_over_and_over(work: Work) -> None:
    def find(but_of: Collection[str], limit: int) -> list[Step]:
        return [Step(partner="same", row_id=1, run=partial(work.run, ("same", 1)))]

    attend(find)
    assert work.begun == [("same", 1)]


def test_a_worker_that_stops_begins_nothing(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds._Worker, "is_stopping", True)
    work.due = [("healthy", 0)]
    attend(work.find)
    assert work.begun == []


def test_a_run_is_alone_whatever_becomes_of_its_connection(db: None) -> None:
    found = []
    with alone("a test") as is_alone:
        connection.close()  # as whoever calls another service does
        with alone("a test") as other:
            found = [is_alone, other]
    with alone("a test") as later:
        assert [*found, later] == [True, False, True]
