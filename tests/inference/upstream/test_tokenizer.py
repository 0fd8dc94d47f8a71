"""The tokenizer that `manage.py models install` gets of Cohere's API."""

import pytest

from inference.upstream.entries import CohereUpstream, SageMakerUpstream
from inference.upstream.tokenizer import TokenizerNotFetched, fetch_tokenizer
from tests.inference.upstream.stand_in import KEY, TOKENIZER, StandIn, answers


def upstream(stand_in: StandIn) -> CohereUpstream:
    return CohereUpstream(model="embed-v4.0", url=stand_in.url)


def test_it_is_fetched_from_where_the_model_says(stand_in: StandIn) -> None:
    assert fetch_tokenizer(upstream(stand_in)).decode() == TOKENIZER
    described = stand_in.calls[0]
    assert described.path == "/v1/models/embed-v4.0"
    assert described.headers["authorization"] == f"Bearer {KEY}"


def test_the_key_is_not_sent_where_the_tokenizer_lies(stand_in: StandIn) -> None:
    fetch_tokenizer(upstream(stand_in))
    assert "authorization" not in stand_in.calls[1].headers


@pytest.mark.parametrize(
    ("behaviours", "reason"),
    [
        ([answers(404)], "answered 404"),
        ([answers(200, "<html>")], "does not describe a model"),
        ([answers(200, {"name": "embed-v4.0"})], "names no tokenizer"),
        ([answers(200, {"tokenizer_url": "file:///etc/passwd"})], "UnsupportedProtocol"),
        ([answers(200, {"tokenizer_url": "http://127.0.0.1:port"})], "InvalidURL"),
    ],
)
def test_what_is_wrong_is_said(stand_in: StandIn, behaviours: list[object], reason: str) -> None:
    stand_in.next.extend(behaviours)  # type: ignore[arg-type]
    with pytest.raises(TokenizerNotFetched, match=reason):
        fetch_tokenizer(upstream(stand_in))


def test_what_is_no_tokenizer_is_refused(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.inference.upstream.stand_in.TOKENIZER", '{"model": 1}')
    with pytest.raises(TokenizerNotFetched, match="is no tokenizer"):
        fetch_tokenizer(upstream(stand_in))


def test_what_is_too_large_is_refused(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.upstream.tokenizer.TOKENIZER_MAX_BYTES", 100)
    with pytest.raises(TokenizerNotFetched, match="more than 100 bytes"):
        fetch_tokenizer(upstream(stand_in))


def test_sagemakers_is_installed_from_a_folder() -> None:
    with pytest.raises(TokenizerNotFetched, match="--from FOLDER"):
        fetch_tokenizer(SageMakerUpstream(endpoint="embed-4", region="us-east-1"))
