"""What the timed web process and the timed worker write, a line of JSON for each request."""

import msgspec

# The files' common beginning, for the processes that write them.
LOG_VARIABLE = "BENCH_STAGES"


class WebSpans(msgspec.Struct, frozen=True, kw_only=True):
    """Starts and ends of a request and its stages in the web process, in seconds of the clock."""

    total: tuple[float, float]
    stages: dict[str, tuple[float, float]]


class WorkerSpan(msgspec.Struct, frozen=True, kw_only=True):
    """When a batch was taken from the queue, and when it was computed."""

    taken_at: float
    computed_at: float
