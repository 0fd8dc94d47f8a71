"""The search for the largest batch that a GPU has memory for, with a stand-in for the GPU."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inference.engine import Encoder
from inference.engine.encoder import (
    CUDA_LEAST_TOKEN_BUDGET,
    CUDA_MOST_TOKEN_BUDGET,
    Launched,
    Staged,
)
from tests.inference.engine.checkpoints import save_checkpoint


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """With the budget that it has on a GPU before it has warmed up."""
    encoder = Encoder(save_checkpoint("bert", tmp_path), device="cpu", dtype=torch.float32)
    monkeypatch.setattr(encoder, "_find_budget", True)
    encoder.token_budget = CUDA_LEAST_TOKEN_BUDGET
    return encoder


@pytest.mark.parametrize(
    ("memory_tokens", "budget", "tried"),
    [
        (2_047, 1_024, [2_048]),
        (10_000, 8_192, [2_048, 4_096, 8_192, 16_384]),
        (10**9, CUDA_MOST_TOKEN_BUDGET, [2_048, 4_096, 8_192, 16_384, 32_768]),
    ],
)
def test_the_budget_doubles_until_it_no_longer_fits_or_is_the_most_there_is(
    encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
    memory_tokens: int,
    budget: int,
    tried: list[int],
) -> None:
    asked: list[int] = []

    def fits(tokens: int) -> bool:
        asked.append(tokens)
        return tokens <= memory_tokens

    monkeypatch.setattr(encoder, "_fits", fits)
    encoder.warm_up()
    assert (encoder.token_budget, asked) == (budget, tried)


def test_a_budget_that_was_given_is_not_searched_for(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "_find_budget", False)
    encoder.warm_up()
    assert encoder.token_budget == CUDA_LEAST_TOKEN_BUDGET


@pytest.mark.parametrize(("peak_bytes", "fits"), [(900, True), (901, False), (None, False)])
def test_a_batch_fits_that_leaves_a_tenth_of_the_free_memory_free(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, peak_bytes: int | None, fits: bool
) -> None:
    """Of 1,000 bytes, 300 of which torch has reserved; None: a batch that is out of memory."""
    held = 5_000
    computed: list[Staged] = []

    def launch(staged: Staged) -> Launched:
        computed.append(staged)
        done: Any = None if peak_bytes is None else SimpleNamespace(synchronize=lambda: None)
        return replace(Encoder.launch(encoder, staged), done=done)

    cuda = {
        "mem_get_info": (700, 10_000),
        "memory_allocated": held,
        "memory_reserved": held + 300,
        "reset_peak_memory_stats": None,
        "max_memory_allocated": held + (peak_bytes or 0),
    }
    for name, answer in cuda.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, answer=answer: answer)
    monkeypatch.setattr(encoder, "launch", launch)
    assert encoder._fits(1_024) is fits
    assert [staged.batch.lengths for staged in computed] == [(128,) * 8]  # as long as it takes
