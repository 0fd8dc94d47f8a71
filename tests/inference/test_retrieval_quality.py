"""How much of the search results stays when vectors are quantised: `pytest -s` prints the table.

N documents and Q questions of all-MiniLM-L6-v2. A figure is the share of the ten documents nearest
by float vectors that are also among the ten nearest by quantised ones.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.calibration import CORPUS, find_calibration, read_corpus
from inference.catalogue import get_model
from inference.engine import TextEncoder
from inference.quantization import EmbeddingType, quantize
from tests.inference.conftest import MODEL_ID

CORPORA = Path(__file__).parent / "corpora"
NEAREST = 10
CANDIDATES = 40

Scores = NDArray[np.float32]  # (Q, N), the greater the nearer
Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Texts:
    """vectors of documents (N, D) and questions (Q, D), and the ranges (2, D) shipped for them."""

    documents: Vectors
    questions: Vectors
    ranges: NDArray[np.float32]


def read(name: str) -> list[str]:
    lines = (CORPORA / name).read_text("utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.fixture(scope="module")
def texts() -> Texts:
    model = get_model(MODEL_ID)
    calibration = find_calibration(model)
    assert model.path is not None
    assert calibration is not None
    ranges = calibration.ranges(model.dimensions)
    assert ranges is not None
    encoder = TextEncoder(model.path, max_tokens=model.context_tokens)
    return Texts(
        documents=encoder.encode(read("world_factbook.txt")).vectors,
        questions=encoder.encode(read("world_factbook_questions.txt")).vectors,
        ranges=ranges,
    )


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[dict[str, tuple[float, float]]]:
    figures: dict[str, tuple[float, float]] = {}
    yield figures
    print(f"\n{'kept of the ten nearest':42}  documents  questions")  # noqa: T201
    for name, (by_document, by_question) in figures.items():
        print(f"{name:42}  {by_document:9.4f}  {by_question:9.4f}")  # noqa: T201


def cosine(queries: NDArray[Any], documents: NDArray[Any]) -> Scores:
    rows = [batch.astype(np.float32) for batch in (queries, documents)]
    left, right = (batch / np.linalg.norm(batch, axis=1, keepdims=True) for batch in rows)
    return np.asarray(left @ right.T)


def cosine_around_zero(queries: NDArray[Any], documents: NDArray[Any]) -> Scores:
    return cosine(queries.astype(np.float32) - 128, documents.astype(np.float32) - 128)


def dot(queries: NDArray[Any], documents: NDArray[Any]) -> Scores:
    return queries.astype(np.float32) @ documents.astype(np.float32).T


def euclidean(queries: NDArray[Any], documents: NDArray[Any]) -> Scores:
    left, right = queries.astype(np.float32), documents.astype(np.float32)
    # Less the query's own length, which is the same for every document.
    return np.asarray(2 * left @ right.T - np.square(right).sum(axis=1))


def hamming(queries: NDArray[Any], documents: NDArray[Any]) -> Scores:
    left, right = (batch.view(np.uint8) for batch in (queries, documents))
    different = np.bitwise_count(left[:, None] ^ right[None])  # (Q, N, D / 8)
    return np.asarray(-different.sum(axis=2, dtype=np.float32))


def nearest(scores: Scores, count: int = NEAREST) -> NDArray[np.intp]:
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def kept(found: NDArray[np.intp], wanted: NDArray[np.intp]) -> float:
    return float((found[:, :, None] == wanted[:, None, :]).any(axis=2).mean())


def compare(texts: Texts, score: Callable[[Vectors, Vectors], Scores]) -> tuple[float, float]:
    """What `score`, given float vectors, keeps of the order that they have themselves: with each
    document as the query for the others, and with the questions."""
    documents = texts.documents
    found, wanted = score(documents, documents), dot(documents, documents)
    for scores in (found, wanted):
        np.fill_diagonal(scores, -np.inf)
    by_document = kept(nearest(found), nearest(wanted))
    found, wanted = score(texts.questions, documents), dot(texts.questions, documents)
    return by_document, kept(nearest(found), nearest(wanted))


def rescored(scores: Scores, again: Scores) -> Scores:
    """The best CANDIDATES by the first scores, in the order of the second."""
    candidates = nearest(scores, CANDIDATES)
    finer = np.full_like(scores, -np.inf)
    np.put_along_axis(finer, candidates, np.take_along_axis(again, candidates, axis=1), axis=1)
    return finer


def test_the_ranges_were_not_chosen_on_these_texts() -> None:
    seen = set(read_corpus(CORPUS)[1])
    documents, questions = read("world_factbook.txt"), read("world_factbook_questions.txt")
    assert len(set(documents)) == len(documents) > 400
    assert len(set(questions)) == len(questions) > 50
    assert seen.isdisjoint(documents + questions)


@pytest.mark.parametrize(
    ("embedding_type", "metric", "least"),
    [
        ("int8", cosine, 0.99),
        ("int8", dot, 0.99),
        ("int8", euclidean, 0.98),
        ("uint8", cosine_around_zero, 0.99),
        ("uint8", euclidean, 0.98),
    ],
)
def test_a_byte_keeps_almost_all(
    texts: Texts,
    table: dict[str, tuple[float, float]],
    embedding_type: EmbeddingType,
    metric: Callable[[NDArray[Any], NDArray[Any]], Scores],
    least: float,
) -> None:
    def score(queries: Vectors, documents: Vectors) -> Scores:
        batches = (queries, documents)
        return metric(*(quantize(batch, embedding_type, texts.ranges) for batch in batches))

    by_document, by_question = compare(texts, score)
    table[f"{embedding_type}, {metric.__name__.replace('_', ' ')}"] = by_document, by_question
    assert by_document >= least
    assert by_question >= least


def test_ranges_of_each_coordinate_would_keep_less(
    texts: Texts, table: dict[str, tuple[float, float]]
) -> None:
    """The usual choice, even from these very texts: why the shipped ranges are one step for all."""
    ranges = np.stack([texts.documents.min(axis=0), texts.documents.max(axis=0)])

    def score(queries: Vectors, documents: Vectors) -> Scores:
        return cosine(*(quantize(batch, "int8", ranges) for batch in (queries, documents)))

    by_document, by_question = compare(texts, score)
    table["int8, cosine, a range each coordinate"] = by_document, by_question
    assert by_document < 0.97
    assert by_question < 0.97


@pytest.mark.parametrize("embedding_type", ["binary", "ubinary"])
def test_bits_keep_more_than_half(
    texts: Texts, table: dict[str, tuple[float, float]], embedding_type: EmbeddingType
) -> None:
    def score(queries: Vectors, documents: Vectors) -> Scores:
        return hamming(*(quantize(batch, embedding_type, None) for batch in (queries, documents)))

    by_document, by_question = compare(texts, score)
    table[f"{embedding_type}, Hamming"] = by_document, by_question
    assert by_document > 0.55
    assert by_question > 0.55


def test_rescoring_brings_back_what_bits_lose(
    texts: Texts, table: dict[str, tuple[float, float]]
) -> None:
    def by_bits(queries: Vectors, documents: Vectors) -> Scores:
        return hamming(*(quantize(batch, "ubinary", None) for batch in (queries, documents)))

    def by_float_query(queries: Vectors, documents: Vectors) -> Scores:
        signs = np.where(documents > 0, np.float32(1), np.float32(-1))
        return rescored(by_bits(queries, documents), dot(queries, signs))

    def by_int8(queries: Vectors, documents: Vectors) -> Scores:
        finer = dot(queries, quantize(documents, "int8", texts.ranges))
        return rescored(by_bits(queries, documents), finer)

    best = f"ubinary, best {CANDIDATES} again"
    with_bits, with_bytes = compare(texts, by_float_query), compare(texts, by_int8)
    table[f"{best} by float × bits"] = with_bits
    table[f"{best} by float × int8"] = with_bytes
    assert min(with_bits) > 0.65
    assert min(with_bytes) > 0.9
