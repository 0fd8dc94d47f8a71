"""The fair queue: tokens are shared out evenly, small queries overtake bulk, nobody starves."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from inference.fair_queue import QUANTUM_TOKENS, RANK_MAX_S, FairQueue

Arrivals = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(min_value=1, max_value=2_000)), max_size=60
)


def drain(queue: FairQueue[int]) -> list[int]:
    out = []
    while (item := queue.pop()) is not None:
        out.append(item)
    return out


@given(Arrivals)
def test_everything_comes_out_once(arrivals: list[tuple[str, int]]) -> None:
    queue: FairQueue[int] = FairQueue()
    for number, (flow, tokens) in enumerate(arrivals):
        queue.push(flow, number, tokens=tokens, now=float(number))
    assert len(queue) == len(arrivals)
    assert queue.tokens == sum(tokens for _, tokens in arrivals)
    assert sorted(drain(queue)) == list(range(len(arrivals)))
    assert (len(queue), queue.tokens, queue.flow_count) == (0, 0, 0)


@given(Arrivals, st.data())
def test_what_is_withdrawn_does_not_come_out(
    arrivals: list[tuple[str, int]], data: st.DataObject
) -> None:
    queue: FairQueue[int] = FairQueue()
    entries = [
        queue.push(flow, number, tokens=tokens, now=0.0)
        for number, (flow, tokens) in enumerate(arrivals)
    ]
    gone = data.draw(st.sets(st.sampled_from(range(len(entries))))) if entries else set()
    assert all(queue.withdraw(entries[number]) for number in gone)
    assert not any(queue.withdraw(entries[number]) for number in gone)
    assert queue.tokens == sum(t for n, (_, t) in enumerate(arrivals) if n not in gone)
    assert set(drain(queue)) == set(range(len(arrivals))) - gone


@given(Arrivals, st.integers(min_value=1, max_value=4_000))
def test_a_batch_fits_its_budget_or_is_a_single_item(
    arrivals: list[tuple[str, int]], budget: int
) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for arrival in arrivals:
        queue.push(arrival[0], arrival, tokens=arrival[1], now=0.0)
    seen = 0
    while batch := queue.pop_batch(budget):
        assert len(batch) == 1 or sum(tokens for _, tokens in batch) <= budget
        seen += len(batch)
    assert seen == len(arrivals)


@given(st.lists(st.integers(min_value=1, max_value=1_000), min_size=2, max_size=4))
def test_backlogged_flows_get_the_same_tokens(sizes: list[int]) -> None:
    """Whatever the size of their items: within what one item and one quantum make."""
    queue: FairQueue[int] = FairQueue()
    for flow, tokens in enumerate(sizes):
        for _ in range(20_000 // tokens):
            queue.push(str(flow), flow, tokens=tokens, now=0.0)
    served: Counter[int] = Counter()
    while served.total() < 10_000:
        served_flow = queue.pop()
        assert served_flow is not None
        served[served_flow] += sizes[served_flow]
    spread = max(served.values()) - min(served[flow] for flow in range(len(sizes)))
    assert spread <= 2 * (max(sizes) + QUANTUM_TOKENS)


def test_a_flow_that_was_idle_is_served_next() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(50):
        queue.push("bulk", f"bulk {number}", tokens=500, now=0.0)
    assert queue.pop() == "bulk 0"
    queue.push("query", "query", tokens=10, now=1.0)
    assert queue.pop() == "query"


def test_small_items_do_not_keep_coming_first_for_being_small() -> None:
    """A flow that sends one query after the other gets its share, not more."""
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push("bulk", "bulk", tokens=256, now=0.0)
    tokens = Counter({"bulk": 0, "query": 0})
    for _ in range(400):
        if not queue.tokens_of("query"):
            queue.push("query", "query", tokens=128, now=0.0)
        item = queue.pop()
        assert item is not None
        tokens[item] += 256 if item == "bulk" else 128
        if not queue.tokens_of("bulk"):
            break
    assert tokens["query"] <= 1.5 * tokens["bulk"]


def test_a_bulk_part_pays_for_itself_before_its_flow_is_new_again() -> None:
    """Sending bulk one part at a time must not make each of them a new flow's first."""
    queue: FairQueue[str] = FairQueue()
    for _ in range(200):
        queue.push("steady", "steady", tokens=100, now=0.0)
    tokens: Counter[str] = Counter()
    for _ in range(100):
        if not queue.tokens_of("sly"):
            queue.push("sly", "sly", tokens=1_000, now=0.0)
        item = queue.pop()
        assert item is not None
        tokens[item] += 1_000 if item == "sly" else 100
    assert tokens["sly"] <= 1.5 * tokens["steady"]


def test_within_a_flow_small_items_overtake_bulk() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("a", "bulk", tokens=500, size=20_000, now=0.0)
    queue.push("a", "query", tokens=10, now=0.5)
    assert drain_names(queue) == ["query", "bulk"]


def test_bulk_is_overtaken_for_a_bounded_time() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("a", "bulk", tokens=500, size=1_000_000, now=0.0)
    queue.push("a", "late query", tokens=10, now=RANK_MAX_S + 0.1)
    assert drain_names(queue) == ["bulk", "late query"]


def test_a_requests_parts_keep_their_order() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(5):
        queue.push("a", str(number), tokens=100 + number, size=510, now=0.0)
    assert drain_names(queue) == list("01234")


def drain_names(queue: FairQueue[str]) -> list[str]:
    out = []
    while (item := queue.pop()) is not None:
        out.append(item)
    return out
