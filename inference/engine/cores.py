"""The processor's cores: how many threads compute at the same time, each with cores of its own.

A thread that has a core to itself computes more than a team of threads that wait for each other
after every operation, above all where another process takes a core away now and then.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch

CORES = torch.get_num_threads()
# Beyond this many the interpreter, which runs one thread at a time between operations, is short.
STREAMS = min(CORES, 4)


@lru_cache(maxsize=1)
def streams() -> ThreadPoolExecutor:
    """The threads that compute. What holds the number of their cores holds for each alone."""
    shares = iter(share_cores(CORES, STREAMS))
    return ThreadPoolExecutor(
        STREAMS, "compute", initializer=lambda: torch.set_num_threads(next(shares))
    )


def share_cores(cores: int, streams: int) -> list[int]:
    """How many cores each of the streams has: all of them together."""
    each, more = divmod(cores, streams)
    return [each + (stream < more) for stream in range(streams)]
