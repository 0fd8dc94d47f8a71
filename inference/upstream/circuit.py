"""A circuit: while an upstream is known to be down, calls are refused at once."""

FAILURES_TO_OPEN = 5
OPEN_S = 5.0


class Circuit:
    """Opens after FAILURES_TO_OPEN failures in a row; then one call every OPEN_S tries whether the
    upstream is back. `now` is in seconds of a clock that does not go back."""

    def __init__(self) -> None:
        self._failures = 0
        self._open_until = 0.0

    def wait_s(self, *, now: float) -> float:
        """How long no call may go; at 0 the caller's may, and the others wait for its outcome."""
        if self._failures < FAILURES_TO_OPEN:
            return 0.0
        if now < self._open_until:
            return self._open_until - now
        self._open_until = now + OPEN_S
        return 0.0

    def succeed(self) -> None:
        self._failures = 0

    def fail(self, *, now: float) -> None:
        self._failures += 1
        self._open_until = now + OPEN_S
