"""The encoder: the checkpoint's vectors, in the order asked for."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.catalogue import get_model
from inference.engine import CheckpointMismatch, Encoder, verify_checkpoint
from inference.tokenization import tokenize_now
from tests.inference.real_texts import real_texts

MODEL = get_model("all-minilm-l6-v2")
assert MODEL.path is not None
FOLDER = MODEL.path


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(FOLDER)


def sequences_of(texts: list[str]) -> list[NDArray[np.int32]]:
    batch = tokenize_now(MODEL, texts, "search_document")
    return np.split(batch.ids, np.cumsum(batch.lengths)[:-1])


def test_vectors_of_real_texts_agree_with_sentence_transformers(encoder: Encoder) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from sentence_transformers import SentenceTransformer

    texts = real_texts(60)
    reference = SentenceTransformer(str(FOLDER), device="cpu").encode(texts)
    vectors = encoder.encode(sequences_of(texts))
    cosines = (vectors * reference).sum(1) / np.linalg.norm(reference, axis=1)
    assert vectors.shape == (60, MODEL.dimensions)
    assert cosines.min() >= 0.9999
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_text_has_one_vector_alone_and_among_others(encoder: Encoder) -> None:
    texts = real_texts(40)
    together = encoder.encode(sequences_of(texts))
    for index in (0, 7, 39):
        alone = encoder.encode(sequences_of([texts[index]]))[0]
        assert np.allclose(alone, together[index], atol=1e-5)


def test_batches_stay_within_the_token_budget_and_cover_every_text(encoder: Encoder) -> None:
    lengths = [3, 256, 17, 256, 90, 5, 5, 256, 256, 256, 256, 256, 256, 40]
    batches = list(encoder._batches(lengths))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert max(lengths[i] for i in batch) * len(batch) <= encoder.token_budget
    assert len(batches) > 1


def test_a_text_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    assert list(Encoder(FOLDER, token_budget=10)._batches([50, 3, 60])) == [[2], [0], [1]]


def test_other_weights_than_the_catalogue_names_are_refused(tmp_path: Path) -> None:
    verify_checkpoint(FOLDER, MODEL.sha256)
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(CheckpointMismatch, match="the catalogue says"):
        verify_checkpoint(tmp_path, MODEL.sha256)
