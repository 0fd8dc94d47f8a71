"""The encoder: the checkpoint's vectors, in the order asked for, whatever one text may be."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.corpus import real_paragraphs
from inference.catalogue import get_model
from inference.engine import DeviceLost, Encoder
from inference.tokenization import tokenize_now
from tests.inference.engine.checkpoints import random_sequences, save_checkpoint

MODEL = get_model("all-minilm-l6-v2")
assert MODEL.path is not None
FOLDER = MODEL.path


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """In bfloat16 where the processor has it, also where float32 would be faster."""
    has_bfloat16 = torch.cpu.get_capabilities().get("avx512_bf16")
    return Encoder(FOLDER, device="cpu", dtype=torch.bfloat16 if has_bfloat16 else None)


@pytest.fixture
def tiny(tmp_path: Path) -> Encoder:
    return Encoder(save_checkpoint("bert", tmp_path), device="cpu", dtype=torch.float32)


def sequences_of(texts: list[str]) -> list[NDArray[np.int32]]:
    batch = tokenize_now(MODEL, texts, "search_document")
    return np.split(batch.ids, np.cumsum(batch.lengths)[:-1])


def test_vectors_of_real_texts_are_those_of_sentence_transformers(encoder: Encoder) -> None:
    """In float32 of some texts, and in bfloat16 against float32's; `make bench` takes 2,000."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from sentence_transformers import SentenceTransformer

    texts = real_paragraphs(200)
    exact = Encoder(FOLDER, device="cpu", dtype=torch.float32).encode(sequences_of(texts))
    reference = SentenceTransformer(str(FOLDER), device="cpu").encode(texts[::4])
    assert (exact.vectors[::4] * reference).sum(1).min() >= 0.99999
    encoded = encoder.encode(sequences_of(texts))
    assert encoded.failed == ()
    assert encoded.vectors.shape == (200, MODEL.dimensions)
    assert (encoded.vectors * exact.vectors).sum(1).min() >= 0.9995
    assert np.allclose(np.linalg.norm(encoded.vectors, axis=1), 1, atol=1e-5)


def test_a_real_text_has_one_vector_alone_and_among_others(encoder: Encoder) -> None:
    sequences = sequences_of(real_paragraphs(150))
    together = encoder.encode(sequences).vectors
    for index in range(0, 150, 25):
        alone = encoder.encode([sequences[index]]).vectors[0]
        assert alone @ together[index] > 0.9999


def test_vectors_come_in_the_order_of_the_texts(tiny: Encoder) -> None:
    sequences = random_sequences([5, 90, 30, 90, 1, 77, 30] * 20)
    vectors = tiny.encode(sequences).vectors
    tiny.token_budget = 100  # other batches
    np.testing.assert_allclose(tiny.encode(sequences).vectors, vectors, atol=2e-6)
    np.testing.assert_allclose(tiny.encode(sequences[::-1]).vectors, vectors[::-1], atol=2e-6)


def test_no_texts_have_no_vectors(tiny: Encoder) -> None:
    encoded = tiny.encode([])
    assert encoded.vectors.shape == (0, 32)
    assert encoded.failed == ()


def test_texts_that_the_model_cannot_take_fail_alone(tiny: Encoder) -> None:
    good = random_sequences([12, 40])
    bad = [
        np.array([], np.int32),
        np.array([3, 200], np.int32),  # one more than the vocabulary has
        np.array([-1, 3], np.int32),
        random_sequences([129])[0],  # one more than there are positions
    ]
    encoded = tiny.encode([good[0], *bad, good[1]])
    assert encoded.failed == (1, 2, 3, 4)
    assert not encoded.vectors[1:5].any()
    np.testing.assert_array_equal(encoded.vectors[[0, 5]] != 0, True)
    np.testing.assert_allclose(encoded.vectors[[0, 5]], tiny.encode(good).vectors, atol=2e-6)


class Poison:
    """Fails every forward pass that one id is part of, and counts the passes."""

    def __init__(self, encoder: Encoder, poisonous_id: int, error: Exception) -> None:
        self.passes = 0
        self.poisonous_id = poisonous_id
        self.error = error
        encoder.model.get_input_embeddings().register_forward_pre_hook(self.check)

    def check(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        self.passes += 1
        if (inputs[0] == self.poisonous_id).any():
            raise self.error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("could not create a primitive"),
        IndexError("index out of range in self"),
        MemoryError(),
    ],
    ids=repr,
)
def test_a_poisonous_text_fails_alone(tiny: Encoder, error: Exception) -> None:
    sequences = random_sequences([20] * 64)
    for sequence in sequences:
        sequence[sequence == 199] = 2
    expected = tiny.encode(sequences).vectors
    sequences[41] = np.full(20, 199, np.int32)
    poison = Poison(tiny, 199, error)
    encoded = tiny.encode(sequences)
    assert encoded.failed == (41,)
    others = np.arange(64) != 41
    np.testing.assert_allclose(encoded.vectors[others], expected[others], atol=2e-6)
    assert poison.passes <= 2 * 7 + 4  # halves: two passes for each power of two


def test_a_device_that_answers_no_more_is_an_error_of_its_own(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU after a device-side assert: whatever is asked of it fails from then on."""

    def synchronize(device: torch.device) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    Poison(tiny, 199, torch.AcceleratorError("CUDA error: device-side assert triggered"))
    staged = tiny.stage(tiny.prepare([np.full(20, 199, np.int32)])[0])
    monkeypatch.setattr(tiny, "_on_gpu", True)
    with pytest.raises(DeviceLost, match="device-side assert"):
        tiny.launch(staged)


def test_a_batch_that_cannot_be_brought_ahead_is_brought_when_it_is_computed(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU without memory left for the ids: they must not cost the worker."""

    def stream(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    (batch,) = tiny.prepare(random_sequences([20] * 4))
    expected = tiny.launch(tiny.stage(batch)).rows
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(tiny, "_upload", None, raising=False)
    monkeypatch.setattr(tiny, "_on_gpu", True)
    staged = tiny.stage(batch)
    monkeypatch.setattr(tiny, "_on_gpu", False)
    assert torch.equal(tiny.launch(staged).rows, expected)


def test_a_batch_holds_no_more_than_the_token_budget(tiny: Encoder) -> None:
    tiny.token_budget = 200
    batches = tiny.prepare(random_sequences([100, 90, 20, 60, 128, 5] * 4))
    assert all(len(batch.ids) <= 200 for batch in batches)
    assert sorted(i for batch in batches for i in batch.indexes) == list(range(24))


def test_idle_streams_share_what_is_worth_sharing(tiny: Encoder) -> None:
    sequences = random_sequences([30] * 8)
    assert [len(batch.ids) for batch in tiny.prepare(sequences, idle_streams=2)] == [120, 120]
    assert len(tiny.prepare(sequences, idle_streams=1)) == 1
    assert len(tiny.prepare(sequences[:2], idle_streams=2)) == 1


def test_what_the_encoder_says_of_itself(encoder: Encoder) -> None:
    assert encoder.device == torch.device("cpu")
    assert encoder.dimensions == 384
    assert encoder.max_tokens == 512
    assert 22_000_000 * encoder.dtype.itemsize < encoder.memory_bytes < 100_000_000
    encoder.warm_up()
    assert encoder.token_budget >= 512
