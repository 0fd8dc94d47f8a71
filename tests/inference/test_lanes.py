"""Lanes: who is admitted, what is sent next and how much of it."""

from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.lanes import Lane, Overloaded, Piece, TooMuchWaiting
from inference.presence import Report, Worker
from inference.tokenization import TokenBatch

BUDGET = 1_000
ids = count()


def worker(name: str = "w", *, rate: float = 1_000.0, **changes: bool) -> Worker:
    accepting = changes.get("is_accepting", True)
    report = Report(token_budget=BUDGET, tokens_per_s=rate, is_accepting=accepting)
    return Worker(id=name, report=report, has_lapsed=changes.get("has_lapsed", False))


def lane(*workers: Worker) -> Lane:
    return Lane("embed.shared.m", "m", workers=list(workers or [worker()]))


def batch(*lengths: int) -> TokenBatch:
    return TokenBatch(
        ids=np.arange(sum(lengths), dtype=np.int32),
        lengths=np.array(lengths, dtype=np.int32),
        whole_lengths=np.array(lengths, dtype=np.int32),
    )


def split(lane: Lane, *lengths: int, flow: str = "a") -> list[Piece]:
    return lane.split(batch(*lengths), ids=ids, flow_id=flow, deadline_at=9e12)


def push(lane: Lane, *lengths: int, flow: str = "a", now: float = 0.0) -> list[Piece]:
    pieces = split(lane, *lengths, flow=flow)
    for piece in pieces:
        lane.push(piece, now=now)
    return pieces


@given(st.lists(st.integers(min_value=1, max_value=2_000), min_size=1, max_size=96))
def test_parts_hold_every_text_once_in_order(lengths: list[int]) -> None:
    pieces = split(lane(), *lengths)
    texts: list[int] = []
    tokens: list[int] = []
    for piece in pieces:
        assert piece.rows.start == len(texts)
        part = np.frombuffer(piece.part.lengths, dtype="<i4").tolist()
        assert len(part) == piece.rows.stop - piece.rows.start > 0
        assert piece.part.tokens == sum(part)
        texts += part
        tokens += np.frombuffer(piece.part.ids, dtype="<i4").tolist()
    assert texts == lengths
    assert tokens == list(range(sum(lengths)))


@given(st.lists(st.integers(min_value=1, max_value=256), min_size=1, max_size=96))
def test_parts_are_about_half_a_batch(lengths: list[int]) -> None:
    pieces = split(lane(), *lengths)
    assert all(piece.part.tokens <= BUDGET / 2 + 256 for piece in pieces)
    assert len(pieces) <= sum(lengths) // (BUDGET // 2) + 1


def test_a_few_batches_a_worker_are_in_flight_and_no_more() -> None:
    one = lane()
    push(one, *[100] * 100)
    assert sum(len(task) for task in one.next_tasks(now=0.0)) > 0
    assert 3 * BUDGET <= one.tokens_in_flight <= 4.5 * BUDGET
    assert one.next_tasks(now=0.0) == []
    two = lane(worker("v"), worker("w"))
    push(two, *[100] * 100)
    two.next_tasks(now=0.0)
    assert two.tokens_in_flight > one.tokens_in_flight


def test_what_lands_makes_room() -> None:
    crowded = lane()
    push(crowded, *[100] * 100)
    (first, *_) = crowded.next_tasks(now=0.0)
    assert crowded.next_tasks(now=0.0) == []
    for piece in first:
        assert crowded.land(piece.part.id) is piece
        assert crowded.land(piece.part.id) is None
    assert crowded.next_tasks(now=0.0) != []


def test_a_task_is_about_a_batch_so_that_every_worker_gets_one() -> None:
    shared = lane(worker("v"), worker("w"))
    push(shared, *[100] * 100)
    tasks = shared.next_tasks(now=0.0)
    assert len(tasks) >= 6
    assert all(sum(piece.part.tokens for piece in task) <= BUDGET for task in tasks)


def test_a_query_of_another_goes_out_while_the_window_is_full_of_bulk() -> None:
    busy = lane()
    push(busy, *[100] * 100, flow="bulk")
    busy.next_tasks(now=0.0)
    push(busy, 10, flow="query", now=1.0)
    ((piece,),) = busy.next_tasks(now=1.0)
    assert piece.part.flow_id == "query"


def test_a_text_larger_than_the_window_still_goes_out() -> None:
    small = lane()
    push(small, 50_000)
    assert len(small.next_tasks(now=0.0)) == 1


def test_withdrawn_pieces_are_not_sent() -> None:
    quiet = lane()
    pieces = push(quiet, *[100] * 100)
    quiet.withdraw(pieces)
    assert quiet.tokens_waiting == 0
    assert quiet.next_tasks(now=0.0) == []


def test_what_is_in_flight_past_its_deadline_makes_room() -> None:
    lossy = lane()
    for piece in lossy.split(batch(100), ids=ids, flow_id="a", deadline_at=1_000.0):
        lossy.push(piece, now=0.0)
    lossy.next_tasks(now=0.0)
    lossy.drop_expired(999.0)
    assert lossy.tokens_in_flight == 100
    lossy.drop_expired(1_001.0)
    assert lossy.tokens_in_flight == 0


def admit(lane: Lane, tokens: int, *, flow: str, seconds_left: float = 25.0) -> None:
    lane.admit(flow, tokens, seconds_left=seconds_left, now=0.0)


def test_an_idle_lane_admits_whatever_comes() -> None:
    admit(lane(worker(rate=1.0)), 1_000_000, flow="a")


def test_a_request_that_would_wait_past_its_deadline_is_refused_with_the_time_to_come_back() -> (
    None
):
    full = lane(worker(rate=1_000.0))
    for flow in "bcdef":
        push(full, *[100] * 50, flow=flow)
    admit(full, 100, flow="a")  # a newcomer waits for a share of it only
    with pytest.raises(Overloaded) as caught:
        admit(full, 5_000, flow="a")
    assert not isinstance(caught.value, TooMuchWaiting)
    # 30,000 tokens at 1,000 a second, of 20 s (0.8 of 25) that it may wait.
    assert caught.value.wait_s == pytest.approx(30.0)
    assert caught.value.retry_after_s == pytest.approx(10.0)


def test_a_caller_whose_own_backlog_is_too_long_is_told_so_and_others_are_not() -> None:
    full = lane(worker(rate=1_000.0))
    push(full, *[100] * 300, flow="greedy")
    with pytest.raises(TooMuchWaiting):
        admit(full, 1_000, flow="greedy")
    admit(full, 1_000, flow="modest")


def test_a_caller_with_nothing_there_is_never_told_that_its_own_is_too_much() -> None:
    full = lane(worker(rate=10.0))
    push(full, *[100] * 20, flow="bulk")
    full.next_tasks(now=0.0)
    with pytest.raises(Overloaded) as caught:
        admit(full, 10, flow="newcomer")
    assert not isinstance(caught.value, TooMuchWaiting)
    with pytest.raises(TooMuchWaiting):
        admit(full, 10, flow="bulk")


def test_a_caller_whose_little_is_there_beside_anothers_bulk_is_not_told_that_it_is_its_own() -> (
    None
):
    full = lane(worker(rate=100.0))
    push(full, *[100] * 30, flow="bulk")
    push(full, 10, flow="small")
    full.next_tasks(now=0.0)
    assert full.tokens_waiting == 0
    with pytest.raises(Overloaded) as caught:
        admit(full, 10, flow="small")
    assert not isinstance(caught.value, TooMuchWaiting)
    with pytest.raises(TooMuchWaiting):
        admit(full, 10, flow="bulk", seconds_left=10.0)


def test_what_a_caller_has_at_the_workers_is_its_own_too() -> None:
    full = lane(worker(rate=1_000.0))
    push(full, *[100] * 200, flow="bulk")
    full.next_tasks(now=0.0)
    push(full, 10, flow="other")
    assert full.tokens_waiting < 20_000 - 2 * BUDGET
    with pytest.raises(TooMuchWaiting):
        admit(full, 100, flow="bulk")


def test_a_newcomer_waits_for_the_batches_that_run_and_not_for_those_behind_them() -> None:
    full = lane(worker(rate=100.0))
    push(full, *[100] * 100, flow="bulk")
    full.next_tasks(now=0.0)
    assert full.tokens_in_flight >= 3 * BUDGET
    with pytest.raises(Overloaded) as caught:
        admit(full, 100, flow="newcomer")
    assert caught.value.wait_s == pytest.approx((2 * 100 + 2 * BUDGET) / 100)


def compute(lane: Lane, *, true_rate: float, seconds: float) -> list[float]:
    """The rates that a lane with a backlog sees, every half a second, while batches land one after
    another."""
    push(lane, *[100] * int(true_rate * seconds / 100 + 100), now=0.0)
    lane.next_tasks(now=0.0)
    rates = []
    batch_s = lands_at = BUDGET / true_rate
    for tick in range(1, int(seconds / 0.5) + 1):
        now = tick / 2
        while lands_at <= now:
            for piece in list(lane.in_flight.values())[:2]:
                assert piece.part.tokens == BUDGET / 2
                lane.land(piece.part.id)
                lane.count_delivered(piece)
            lane.next_tasks(now=lands_at)
            lands_at += batch_s
        lane.measure(now)
        rates.append(lane.rate(now))
    return rates


@pytest.mark.parametrize("true_rate", [50.0, 300.0, 3_000.0, 20_000.0])
def test_the_rate_is_learnt_whether_a_batch_takes_milliseconds_or_seconds(true_rate: float) -> None:
    for reported in (true_rate / 3, true_rate, true_rate * 3):
        busy = lane(worker(rate=reported))
        rates = compute(busy, true_rate=true_rate, seconds=30 * BUDGET / true_rate + 10)
        assert all(0.75 * true_rate < rate < 1.35 * true_rate for rate in rates[-len(rates) // 3 :])


def test_a_rate_of_a_backlog_is_forgotten_once_there_is_none() -> None:
    busy = lane(worker(rate=1_000_000.0))
    compute(busy, true_rate=1_000.0, seconds=30.0)
    assert busy.rate(30.0) < 2_000
    assert busy.rate(100.0) == 1_000_000.0


def test_workers_that_compute_nothing_are_noticed() -> None:
    stuck = lane(worker(rate=1_000.0))
    push(stuck, *[100] * 100)
    stuck.next_tasks(now=0.0)
    for tick in range(1, 121):
        stuck.measure(tick / 2)
    assert stuck.rate(60.0) == pytest.approx(stuck.tokens_in_flight / 60)


def test_a_clock_that_was_read_before_the_backlog_began_measures_nothing() -> None:
    busy = lane(worker(rate=1_000.0))
    push(busy, *[100] * 100)
    busy.next_tasks(now=10.001)
    busy.measure(10.0)
    assert busy.rate(10.0) == 1_000.0


def test_the_rate_is_that_of_the_workers_there_are() -> None:
    busy = lane(worker(rate=1_000.0))
    push(busy, *[100] * 100)
    busy.next_tasks(now=0.0)
    busy.workers = [worker(is_accepting=False)]
    for tick in range(1, 21):
        busy.measure(tick / 2)
    busy.workers = [worker("new", rate=1_000.0)]
    assert busy.rate(10.0) == 1_000.0
    admit(busy, 10, flow="b")


def test_a_worker_of_many_streams_has_a_batch_for_each_and_one_more() -> None:
    report = Report(token_budget=BUDGET, tokens_per_s=1.0, batches_at_once=4)
    wide = lane(Worker(id="w", report=report, has_lapsed=False))
    push(wide, *[100] * 100)
    wide.next_tasks(now=0.0)
    assert 5 * BUDGET <= wide.tokens_in_flight <= 6.5 * BUDGET


def test_a_moments_queue_says_nothing_of_the_rate() -> None:
    """What waits at two ticks need not have waited between them."""
    idle = lane(worker(rate=1_000.0))
    for tick in range(1, 10):
        push(idle, 10, now=tick / 2)
        idle.measure(tick / 2)
        (pieces,) = idle.next_tasks(now=tick / 2)
        for piece in pieces:
            idle.land(piece.part.id)
    assert idle.rate(5.0) == 1_000.0


def test_requests_gather_only_while_the_workers_have_enough_to_do() -> None:
    shared = lane()
    may_gather = []
    for lengths, flow in (([10], "a"), ([10], "a"), ([300], "b"), ([10], "a")):
        push(shared, *lengths, flow=flow)
        may_gather.append(shared.may_gather)
        shared.next_tasks(now=0.0)
    push(shared, *[100] * 6)
    may_gather.append(shared.may_gather)
    # At rest it leaves at once, as it does while ten or twenty tokens are computed; with 320 in
    # flight it waits for others, and what is a batch's half does not.
    assert may_gather == [False, False, False, True, False]


def test_workers_that_lapsed_or_are_stopping_do_not_count() -> None:
    gone = lane(worker("v", has_lapsed=True), worker("w", is_accepting=False))
    assert gone.accepting == []
