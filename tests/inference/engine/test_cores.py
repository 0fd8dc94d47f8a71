"""The processor's cores, shared between the threads that compute."""

import threading

import pytest
import torch

from inference.engine.cores import CORES, STREAMS, share_cores, streams


@pytest.mark.parametrize("cores", range(1, 65))
def test_all_cores_are_shared_out(cores: int) -> None:
    count = min(cores, 4)
    shares = share_cores(cores, count)
    assert len(shares) == count
    assert sum(shares) == cores
    assert max(shares) - min(shares) <= 1


def test_every_stream_has_its_share() -> None:
    barrier = threading.Barrier(STREAMS)

    def threads(_: int) -> int:
        barrier.wait(20)  # so that each stream answers once
        return torch.get_num_threads()

    assert sorted(streams().map(threads, range(STREAMS))) == sorted(share_cores(CORES, STREAMS))
