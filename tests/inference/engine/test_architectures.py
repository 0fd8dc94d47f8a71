"""The packed path against transformers' own padded, eager, float32 forward pass."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize
from transformers import AutoModel

from inference.engine import Encoder, estimate_memory_bytes
from inference.engine.pooling import Pooling
from tests.inference.engine.checkpoints import CONFIGS, random_sequences, save_checkpoint

LENGTHS = [17, 1, 40, 40, 3, 64, 25, 24, 23, 100, 40, 8, 9, 128]
POOLINGS: dict[str, Pooling] = {
    "bert": "mean",
    "xlm-roberta": "cls",
    "nomic-bert": "mean",
    "qwen3": "last",
    "qwen3-vl": "last",
}


@pytest.fixture(scope="module", params=CONFIGS)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(architecture: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(architecture, tmp_path_factory.mktemp(architecture))


@torch.inference_mode()
def padded_vectors(
    folder: Path, sequences: list[NDArray[np.int32]], pooling: Pooling
) -> NDArray[np.float32]:
    """What transformers computes of a padded batch, pooled text by text."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    longest = max(map(len, sequences))
    padding = model.config.get_text_config().pad_token_id
    ids = torch.full((len(sequences), longest), padding)  # (B, T)
    mask = torch.zeros_like(ids)  # (B, T)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.from_numpy(sequence)
        mask[row, : len(sequence)] = 1
    hidden = model.eval()(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, T, H)
    texts = [states[: len(sequence)] for states, sequence in zip(hidden, sequences, strict=True)]
    pooled = {
        "mean": lambda text: text.mean(0),
        "cls": lambda text: text[0],
        "last": lambda text: text[-1],
    }[pooling]
    vectors: NDArray[np.float32] = normalize(
        torch.stack([pooled(t) for t in texts])  # type: ignore[no-untyped-call]
    ).numpy()
    return vectors


def test_packed_vectors_are_those_of_the_padded_model(architecture: str, folder: Path) -> None:
    pooling = POOLINGS[architecture]
    sequences = random_sequences(LENGTHS)
    expected = padded_vectors(folder, sequences, pooling)
    encoder = Encoder(folder, pooling=pooling, device="cpu", dtype=torch.float32)
    encoded = encoder.encode(sequences)
    assert encoded.failed == ()
    np.testing.assert_allclose(encoded.vectors, expected, atol=2e-5)
    # The weights are such that texts differ: a leak, or wrong positions, would show.
    assert (expected @ expected.T)[np.triu_indices(len(LENGTHS), 1)].min() < 0.9


def test_every_architecture_is_captured_and_computes_the_same(
    architecture: str,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sequences = random_sequences(LENGTHS)
    encoder = Encoder(folder, pooling=POOLINGS[architecture], device="cpu", dtype=torch.float32)
    plain = encoder.encode(sequences).vectors
    encoder.warm_up()
    assert "without a graph" not in caplog.text
    monkeypatch.setattr(encoder.model, "forward", None)  # only the graph can compute now
    np.testing.assert_allclose(encoder.encode(sequences).vectors, plain, atol=2e-6)
    text = random_sequences([33], seed=1)
    poisonous = np.full(30, 150, np.int32)
    alone = encoder.encode(text).vectors[0]
    with torch.no_grad():
        encoder.model.get_input_embeddings().get_parameter("weight")[150] = torch.nan
    text[0][text[0] == 150] = 2
    encoded = encoder.encode([poisonous, *text])
    assert encoded.failed == (0,)
    np.testing.assert_allclose(encoded.vectors[1], alone, atol=2e-6)


def test_vectors_in_bfloat16_are_close(architecture: str, folder: Path) -> None:
    pooling = POOLINGS[architecture]
    sequences = random_sequences(LENGTHS)
    expected = padded_vectors(folder, sequences, pooling)
    encoder = Encoder(folder, pooling=pooling, device="cpu", dtype=torch.bfloat16)
    assert (encoder.encode(sequences).vectors * expected).sum(1).min() > 0.999


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_every_pooling_goes_with_every_architecture(folder: Path, pooling: Pooling) -> None:
    sequences = random_sequences([5, 30, 30, 12])
    encoder = Encoder(folder, pooling=pooling, device="cpu", dtype=torch.float32)
    expected = padded_vectors(folder, sequences, pooling)
    np.testing.assert_allclose(encoder.encode(sequences).vectors, expected, atol=2e-5)


def test_a_text_has_one_vector_alone_and_in_any_batch(architecture: str, folder: Path) -> None:
    encoder = Encoder(folder, pooling=POOLINGS[architecture], device="cpu", dtype=torch.float32)
    planted = random_sequences([33], seed=1)[0]
    alone = encoder.encode([planted]).vectors[0]
    for lengths in ([33, 33], [32, 34, 1], [128] * 5, list(range(1, 80))):
        neighbours = random_sequences(lengths, seed=len(lengths))
        together = encoder.encode([*neighbours, planted, *neighbours]).vectors[len(lengths)]
        np.testing.assert_allclose(together, alone, atol=2e-6)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
def test_a_neighbour_of_numbers_that_are_not_finite_or_huge_changes_nothing(
    architecture: str, folder: Path, poison: float
) -> None:
    encoder = Encoder(folder, pooling=POOLINGS[architecture], device="cpu", dtype=torch.float32)
    texts = random_sequences([30, 30, 30, 28, 7])
    poisonous = 150
    for text in texts:
        text[text == poisonous] = 2
    before = encoder.encode(texts).vectors
    with torch.no_grad():
        encoder.model.get_input_embeddings().get_parameter("weight")[poisonous] = poison
    bad = np.full(30, poisonous, np.int32)
    encoded = encoder.encode([texts[0], bad, *texts[1:]])
    np.testing.assert_allclose(np.delete(encoded.vectors, 1, 0), before, atol=2e-6)
    if not np.isfinite(poison):
        assert encoded.failed == (1,)
        assert not encoded.vectors[1].any()


def test_what_sees_images_is_not_kept_for_texts(tmp_path: Path) -> None:
    folder = save_checkpoint("qwen3-vl", tmp_path)
    encoder = Encoder(folder, pooling="last", device="cpu", dtype=torch.float32)
    whole = AutoModel.from_pretrained(folder, dtype=torch.float32)
    kept = sum(weights.nbytes for weights in whole.language_model.parameters())
    assert estimate_memory_bytes(folder, torch.float32) == kept
    assert encoder.memory_bytes < sum(weights.nbytes for weights in whole.parameters())


def test_the_position_after_the_padding_is_a_robertas_first(tmp_path: Path) -> None:
    encoder = Encoder(save_checkpoint("xlm-roberta", tmp_path), device="cpu")
    assert encoder.max_tokens == 128  # of a table of 130
    assert encoder.encode(random_sequences([128, 129])).failed == (1,)
