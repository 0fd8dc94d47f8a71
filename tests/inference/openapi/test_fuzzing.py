"""Schemathesis over the document: no 5xx, no answer that is not in it, nothing wrong accepted.

FUZZ_CASES requests a dialect are made from the document, half of them wrong in some way; the same
ones in every run. `make fuzz` makes 2,000.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import httpx
import pytest
import requests
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, given, seed, settings
from redis import Redis
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from billing.models import Plan
from inference.asgi import InferenceApplication
from inference.openapi.document import document
from tests.inference.conftest import Attach, not_ours

CASES = int(os.environ.get("FUZZ_CASES", "50"))
TIMEOUT_S = 120 + CASES  # 0.05 s of processor time a case, most of it to make it
LIMIT = 1_000_000_000  # a minute, which no run reaches
ANNEX = "http://annex"
DIALECTS = {
    "openai": ("/v1/embeddings", "/v1/tokenize"),
    "cohere": ("/v2/embed", "/v1/embed"),
    "sagemaker": ("/invocations", "/endpoints/{name}/invocations"),
}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
CONFIG = schemathesis.Config.from_dict(
    {
        # The key is sent with every case: what happens without one is tested elsewhere.
        "generation": {"with-security-parameters": False},
        "checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}},
    }
)

AnyCase = Case[Any]
Send = Callable[[AnyCase], httpx.Response]


@pytest.fixture
def send(serving: None, redis_client: Redis, attach: Attach) -> Iterator[Send]:
    """Sends a case to the application, with the key of an attachment that no limit stops."""
    application = InferenceApplication(otherwise=not_ours)
    with start_blocking_portal() as portal:
        portal.call(application.start)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=application))
        key = portal.call(attach).key
        Plan.objects.update(requests_per_minute=LIMIT, tokens_per_minute=LIMIT)

        def send_now(case: AnyCase) -> httpx.Response:
            request = http_request(case)
            request.headers["authorization"] = f"Bearer {key}"
            return portal.call(client.send, request)

        yield send_now
        portal.call(client.aclose)
        portal.call(application.stop)


def http_request(case: AnyCase) -> httpx.Request:
    """What schemathesis would send by the package requests."""
    parts = case.as_transport_kwargs(base_url=ANNEX)
    known = ("method", "url", "headers", "params", "data", "json", "files", "cookies")
    made = requests.Request(**{name: parts[name] for name in known if name in parts}).prepare()
    assert made.body is None or isinstance(made.body, str | bytes)
    headers = cast(Mapping[str, str], made.headers)
    return httpx.Request(str(made.method), str(made.url), headers=headers, content=made.body)


def exchange(path: str, mode: GenerationMode, send: Send, cases: int) -> Counter[int]:
    """How many answers had each status, all of them as documented."""
    statuses: Counter[int] = Counter()
    operation = schemathesis.openapi.from_dict(document(), config=CONFIG)[path]["POST"]

    @seed(1)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def validate(case: AnyCase) -> None:
        response = send(case)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    validate()
    return statuses


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_answer_is_documented(dialect: str, mode: GenerationMode, send: Send) -> None:
    for path in DIALECTS[dialect]:
        cases = CASES // (2 * len(DIALECTS[dialect]))
        statuses = exchange(path, mode, send, cases)
        print(f"{path} {mode.value}: {dict(sorted(statuses.items()))}")  # noqa: T201
        assert statuses.total() >= cases
        if mode is GenerationMode.POSITIVE:
            assert statuses[200] > cases / 10
