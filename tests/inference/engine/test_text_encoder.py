"""Texts to vectors, as a program that uses the engine as a library asks for them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from bench.corpus import real_paragraphs
from inference.catalogue import get_model
from inference.engine import TextEncoder, encode_texts
from inference.tokenization import tokenize_now

MODEL = get_model("all-minilm-l6-v2")
assert MODEL.path is not None
FOLDER = MODEL.path


@pytest.fixture(scope="module")
def text_encoder() -> TextEncoder:
    return TextEncoder(FOLDER)


def test_texts_have_the_vectors_of_their_tokens(
    text_encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.engine.text_encoder.CHUNK_CHARACTERS", 2_000)
    texts = [*real_paragraphs(100), "word " * 1_000, ""]
    tokens = tokenize_now(MODEL, texts, "search_document")
    sequences = np.split(tokens.ids, np.cumsum(tokens.lengths)[:-1])
    expected = text_encoder.encoder.encode(sequences).vectors
    found = text_encoder.encode(texts)
    assert found.failed == ()
    assert (found.vectors * expected).sum(1).min() > 0.9999


def test_no_texts_have_no_vectors(text_encoder: TextEncoder) -> None:
    assert text_encoder.encode([]).vectors.shape == (0, 384)


def test_one_call_does_it_all() -> None:
    cat, kitten, bond = encode_texts(FOLDER, ["a cat", "a kitten", "the yield of a bond"])
    assert cat @ kitten > cat @ bond


def test_pooling_is_what_the_folder_says(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    assert TextEncoder(tmp_path).encoder.pooling == "mean"
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert TextEncoder(tmp_path).encoder.pooling == "cls"
    assert TextEncoder(tmp_path, pooling="last").encoder.pooling == "last"
