"""What may stand in the catalogue's `[model.upstream]`."""

from collections.abc import Mapping

import msgspec
import pytest

from inference.upstream.entries import (
    CohereUpstream,
    CredentialsUnusable,
    SageMakerUpstream,
    Upstream,
    find_unusable_variables,
    read_secret,
)
from tests.inference.upstream.stand_in import KEY

COHERE = {"kind": "cohere", "model": "embed-v4.0"}
SAGEMAKER = {"kind": "sagemaker", "endpoint": "embed-4", "region": "us-east-1"}


def read(table: Mapping[str, object]) -> Upstream:
    upstream: Upstream = msgspec.convert(table, Upstream)
    return upstream


def test_what_is_not_stated_is_coheres_api() -> None:
    assert read(COHERE) == CohereUpstream(
        model="embed-v4.0", url="https://api.cohere.com", key_variable="COHERE_API_KEY"
    )


@pytest.mark.parametrize(
    "table",
    [
        COHERE | {"key": KEY},
        COHERE | {"key_variable": KEY},
        COHERE | {"key_variable": "COHEREAPIKEY"},
        COHERE | {"url": f"https://user:{KEY}@api.cohere.com"},
        COHERE | {"url": f"https://api.cohere.com/?key={KEY}"},
        COHERE | {"url": "api.cohere.com"},
        COHERE | {"url": "https://api.cohere.com\n"},
        COHERE | {"model": "../v1/models"},
        COHERE | {"max_concurrent": 0},
        SAGEMAKER | {"endpoint": "embed/4"},
        SAGEMAKER | {"region": "evil.example/"},
        SAGEMAKER | {"access_key_id_variable": "TEST_AWS_ID"},
        SAGEMAKER | {"secret_access_key_variable": "TEST_AWS_SECRET"},
        SAGEMAKER | {"model": "embed-v4.0"},
        {"kind": "openai"},
        {},
    ],
)
def test_what_cannot_be_meant_is_refused_and_no_secret_repeated(
    table: Mapping[str, object],
) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        read(table)
    assert KEY not in str(refused.value)


def test_variables_without_a_secret_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = SageMakerUpstream(
        endpoint="embed-4",
        region="us-east-1",
        access_key_id_variable="TEST_AWS_ID",
        secret_access_key_variable="TEST_AWS_SECRET",
    )
    assert find_unusable_variables(entry) == ()
    monkeypatch.delenv("TEST_AWS_SECRET")
    assert find_unusable_variables(entry) == ("TEST_AWS_SECRET",)


def test_a_line_end_around_a_secret_is_not_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COHERE_API_KEY", f"{KEY}\n")
    assert read_secret("COHERE_API_KEY") == KEY
    monkeypatch.setenv("COHERE_API_KEY", "\n")
    with pytest.raises(CredentialsUnusable, match="COHERE_API_KEY is not set"):
        read_secret("COHERE_API_KEY")
