"""When an upstream is taken to be down."""

from inference.upstream.circuit import FAILURES_TO_OPEN, OPEN_S, Circuit


def opened(at: float) -> Circuit:
    circuit = Circuit()
    for _ in range(FAILURES_TO_OPEN):
        assert circuit.wait_s(now=at) == 0
        circuit.fail(now=at)
    return circuit


def test_failures_in_a_row_open_it() -> None:
    circuit = opened(100.0)
    assert circuit.wait_s(now=101.0) == OPEN_S - 1


def test_failures_among_successes_do_not() -> None:
    circuit = Circuit()
    for _ in range(10 * FAILURES_TO_OPEN):
        circuit.fail(now=100.0)
        circuit.succeed()
    assert circuit.wait_s(now=100.0) == 0


def test_one_call_tries_whether_it_is_back() -> None:
    circuit = opened(100.0)
    later = 100.0 + OPEN_S
    assert [circuit.wait_s(now=later) for _ in range(3)] == [0, OPEN_S, OPEN_S]


def test_its_success_closes_it_and_its_failure_does_not() -> None:
    circuit = opened(100.0)
    circuit.wait_s(now=100.0 + OPEN_S)
    circuit.fail(now=106.0)
    assert circuit.wait_s(now=107.0) == OPEN_S - 1
    assert circuit.wait_s(now=106.0 + OPEN_S) == 0
    circuit.succeed()
    assert circuit.wait_s(now=106.0 + OPEN_S) == 0
    assert circuit.wait_s(now=106.0 + OPEN_S) == 0
