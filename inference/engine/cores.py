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
    return ThreadPoolExecutor(
        STREAMS, "compute", initializer=torch.set_num_threads, initargs=(CORES // STREAMS,)
    )
