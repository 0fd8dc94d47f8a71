from typing import Any

import msgspec
import pytest

from inference.calibration import choose_ranges, find_calibration
from inference.catalogue import Model, get_model
from inference.fingerprint import fingerprint
from inference.upstream.entries import CohereUpstream
from tests.inference.conftest import MODEL_ID
from tests.inference.test_calibration import make
from tests.inference.test_quantization import unit_vectors


@pytest.fixture
def model() -> Model:
    return get_model(MODEL_ID)


def changed(model: Model, **changes: Any) -> Model:
    return msgspec.structs.replace(model, **changes)


def test_is_the_same_for_the_same_space(model: Model) -> None:
    same = changed(model, description="another", max_inputs=3, tokens_per_minute=7)
    first = fingerprint(model, "search_document", 384, None)
    assert first == fingerprint(same, "search_document", 384, None)
    assert first == fingerprint(model, "search_query", 384, None), "neither has a prompt"
    assert len(first) == 16
    assert int(first, 16) >= 0


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint": "someone/else"},
        {"sha256": "0" * 64},
        {"pooling": "cls"},
        {"prompts": {"search_document": "passage: "}},
        {"suffix": "<|endoftext|>"},
        {"upstream": CohereUpstream(model="embed-v4.0", key_variable="COHERE_KEY")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_changes_with_the_model(model: Model, changes: dict[str, Any]) -> None:
    before = fingerprint(model, "search_document", 384, None)
    assert fingerprint(changed(model, **changes), "search_document", 384, None) != before


def test_changes_with_the_prompt_of_the_input_type(model: Model) -> None:
    prompted = changed(model, prompts={"search_query": "query: "})
    document = fingerprint(prompted, "search_document", 384, None)
    assert fingerprint(prompted, "search_query", 384, None) != document
    assert fingerprint(model, "search_document", 384, None) == document


def test_changes_with_the_dimension_and_the_ranges(model: Model) -> None:
    shipped = find_calibration(model)
    other = make(model, choose_ranges(unit_vectors(100, 384)))
    seen = {
        fingerprint(model, "search_document", 384, None),
        fingerprint(model, "search_document", 256, None),
        fingerprint(model, "search_document", 384, shipped),
        fingerprint(model, "search_document", 384, other),
    }
    assert len(seen) == 4


def test_changes_with_the_quantiser(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(model, "search_document", 384, None)
    monkeypatch.setattr("inference.fingerprint.QUANTIZER_VERSION", 2)
    assert fingerprint(model, "search_document", 384, None) != before
