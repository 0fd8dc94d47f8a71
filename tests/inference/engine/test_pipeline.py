"""The pipeline: everything taken is given, nothing is taken early, nothing ends it but the end."""

import gc
import queue
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.engine import DeviceLost, Encoded, Encoder, Pipeline, Work
from inference.engine.cores import STREAMS
from inference.engine.encoder import Launched, Staged
from tests.inference.engine.checkpoints import random_sequences, save_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint("bert", tmp_path_factory.mktemp("model"))


@pytest.fixture
def encoder(folder: Path) -> Encoder:
    return Encoder(folder, device="cpu", dtype=torch.float32)


@pytest.fixture(params=[False, True], ids=["as on a processor", "as on a GPU"])
def prepare_ahead(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def run(
    work: list[Work[int]], prepare_ahead: bool, give: Callable[[int, Encoded], None] | None = None
) -> dict[int, Encoded]:
    """What the pipeline gives back of `work`, by tag."""
    given: dict[int, Encoded] = {}
    remaining = iter(work)
    pipeline = Pipeline[int](
        take=lambda: next(remaining, None),
        give=give or given.__setitem__,
        prepare_ahead=prepare_ahead,
    )
    pipeline.run()
    return given


def work_of(encoder: Encoder, sequences: list[NDArray[np.int32]], tag: int) -> Work[int]:
    return Work(encoder=encoder, sequences=sequences, tag=tag)


def test_all_work_is_given_back_with_its_own_vectors(encoder: Encoder, prepare_ahead: bool) -> None:
    encoder.token_budget = 150
    works = [
        work_of(encoder, random_sequences([1 + tag % 90] * (tag % 7), seed=tag), tag)
        for tag in range(60)
    ]
    given = run(works, prepare_ahead)
    assert sorted(given) == list(range(60))
    for work in works:
        expected = encoder.encode(work.sequences).vectors
        np.testing.assert_allclose(given[work.tag].vectors, expected, atol=2e-6)


def test_a_poisonous_text_costs_its_own_work_one_text(
    encoder: Encoder, prepare_ahead: bool
) -> None:
    def check(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if (inputs[0] == 199).any():
            raise RuntimeError("out of memory")

    encoder.model.get_input_embeddings().register_forward_pre_hook(check)
    works = []
    for tag in range(10):
        sequences = [sequence % 190 for sequence in random_sequences([20] * 12, seed=tag)]
        sequences[tag][0] = 199
        works.append(work_of(encoder, sequences, tag))
    given = run(works, prepare_ahead)
    assert {tag: encoded.failed for tag, encoded in given.items()} == {
        tag: (tag,) for tag in range(10)
    }


class Gate:
    """An encoder's forward pass waits here, so that a test sees what happens meanwhile."""

    def __init__(self, encoder: Encoder) -> None:
        self.open = threading.Event()
        self.waiting = threading.Semaphore(0)
        encoder.model.get_input_embeddings().register_forward_pre_hook(self.wait)

    def wait(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        self.waiting.release()
        assert self.open.wait(30)


@pytest.mark.parametrize(("prepare_ahead", "early"), [(False, STREAMS), (True, 2)])
def test_work_is_taken_when_it_can_be_computed_and_one_ahead_for_a_gpu(
    encoder: Encoder, prepare_ahead: bool, early: int
) -> None:
    gate = Gate(encoder)
    taken: list[int] = []
    works = iter([work_of(encoder, random_sequences([10]), tag) for tag in range(12)])

    def take() -> Work[int] | None:
        work = next(works, None)
        taken.append(work.tag if work else -1)
        return work

    given: list[int] = []
    pipeline = Pipeline[int](
        take=take, give=lambda tag, _: given.append(tag), prepare_ahead=prepare_ahead
    )
    thread = threading.Thread(target=pipeline.run)
    thread.start()
    assert gate.waiting.acquire(timeout=30)
    time.sleep(0.2)
    assert len(taken) == early
    gate.open.set()
    thread.join(timeout=30)
    assert sorted(given) == list(range(12))


def test_the_next_batch_is_computed_while_the_last_is_given(
    encoder: Encoder, prepare_ahead: bool
) -> None:
    second_computed = threading.Event()
    launch = encoder.launch

    def watched(staged: Staged) -> Launched:
        launched = launch(staged)
        if len(staged.batch.ids) == 7:
            second_computed.set()
        return launched

    encoder.launch = watched  # type: ignore[method-assign]
    met: list[bool] = []

    def give(tag: int, encoded: Encoded) -> None:
        if tag == 0:
            met.append(second_computed.wait(30))

    works = [work_of(encoder, random_sequences([length]), tag) for tag, length in enumerate((5, 7))]
    run(works, prepare_ahead, give)
    assert met == [True]


def test_what_take_and_give_raise_ends_the_run(encoder: Encoder, prepare_ahead: bool) -> None:
    def give(tag: int, encoded: Encoded) -> None:
        raise ConnectionError("nobody to give it to")

    works = [work_of(encoder, random_sequences([10]), tag) for tag in range(50)]
    with pytest.raises(ConnectionError):
        run(works, prepare_ahead, give)

    def take() -> None:
        raise TimeoutError("nothing to take from")

    with pytest.raises(TimeoutError):
        Pipeline[int](take=take, give=give, prepare_ahead=prepare_ahead).run()


def test_a_lost_device_ends_the_run_though_nothing_more_is_taken(encoder: Encoder) -> None:
    """On a GPU the error is found while `take` waits for work that may never come."""

    def collect(count: int, launched: list[Launched]) -> Encoded:
        raise DeviceLost("device-side assert")

    encoder.collect = collect  # type: ignore[method-assign, assignment]
    works: queue.Queue[Work[int] | None] = queue.Queue()
    works.put(work_of(encoder, random_sequences([10]), 0))
    pipeline = Pipeline[int](take=works.get, give=lambda *_: None, prepare_ahead=True)
    with pytest.raises(DeviceLost):
        pipeline.run()
    works.put(None)  # lets the waiting thread end


def test_a_model_can_go_while_the_next_is_loaded(folder: Path, prepare_ahead: bool) -> None:
    """Else a worker would need room for one model more than its budget."""
    gone = threading.Event()
    encoders = [Encoder(folder, device="cpu", dtype=torch.float32)]
    weakref.finalize(encoders[0], gone.set)

    def take() -> Work[int] | None:
        if encoders:
            return work_of(encoders.pop(), random_sequences([5, 6]), 1)
        pipeline.wait_until_empty()
        assert given
        deadline = time.monotonic() + 5
        while not gone.is_set() and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.01)
        return None

    given: list[int] = []
    pipeline = Pipeline[int](
        take=take, give=lambda tag, _: given.append(tag), prepare_ahead=prepare_ahead
    )
    pipeline.run()
    assert gone.is_set()
