"""`GET /v1/usage` reads the usage of a key's attachment or of a token's account, and no other's."""

import csv
import io
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from uuid_utils.compat import uuid7

from addon.platform.accounts import create_account
from addon.platform.authorizations import create_authorization
from addon.platform.models import Authorization
from billing.bulk import record_many
from billing.metering import Usage
from inference import usage_views
from inference.database import run_in_database_thread
from inference.openapi.document import document
from inference.usage_views import print_microunits
from tests.inference.conftest import Attach
from tests.inference.openapi.test_document import check

START = datetime(2026, 11, 1, tzinfo=UTC)
PERIOD = {"start_time": "2026-11-01T00:00:00Z", "end_time": "2026-11-03T00:00:00Z"}

Use = Callable[..., Awaitable[Usage]]


@dataclass(frozen=True, kw_only=True)
class Payer:
    id: uuid.UUID
    token: str


@pytest.fixture
def use(transactional_db: None) -> Use:
    """Records usage: 17 tokens at START, except for what is given."""

    async def use(*, at: datetime = START, **changes: Any) -> Usage:
        usage = Usage(
            **{
                "id": uuid7(),
                "customer_id": uuid.uuid4(),
                "resource_id": uuid.uuid4(),
                "attachment_id": uuid.uuid4(),
                "credential_id": uuid.uuid4(),
                "attachment_name": "EMBEDDING",
                "app_name": "shop",
                "plan_name": "heroku-inference:standard",
                "price_id": 0,
                "model_id": "all-minilm-l6-v2",
                "inputs": 2,
                "text_tokens": 17,
                "cost_picounits": 1_700_001,
                "requested_at": at,
                **changes,
            }
        )
        await run_in_database_thread(record_many, [usage], stored_at=at)
        return usage

    return use


async def payer(email: str) -> Payer:
    """An account with an access token."""

    def create() -> Payer:
        account = create_account(email)
        token = create_authorization(account, "test").token
        return Payer(id=account.id, token=token)

    return await run_in_database_thread(create)


async def get(client: httpx.AsyncClient, token: str, **parameters: Any) -> httpx.Response:
    response = await client.get(
        "/v1/usage",
        params={**PERIOD, **parameters},
        headers={"authorization": f"Bearer {token}"},
    )
    documented = document()["paths"]["/v1/usage"]["get"]["responses"][str(response.status_code)]
    if response.headers["content-type"] == "application/json":
        check(documented, dict(response.headers), response.content)
    return response


async def rows(client: httpx.AsyncClient, token: str, **parameters: Any) -> list[dict[str, Any]]:
    response = await get(client, token, **parameters)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["data"]
    return found


async def test_an_account_sees_what_it_pays_for(client: httpx.AsyncClient, use: Use) -> None:
    mine = await payer("a@example.com")
    used = await use(customer_id=mine.id, image_tokens=3)
    await use(customer_id=mine.id, at=START + timedelta(hours=30))
    response = await get(client, mine.token, group_by="model,attachment,app,key")
    answer = response.json()
    first, second = answer.pop("data")
    assert answer == {
        "object": "page",
        **PERIOD,
        "bucket_width": "1d",
        "has_more": False,
        "next_page": None,
    }
    assert first == {
        "object": "usage",
        "start_time": "2026-11-01T00:00:00Z",
        "end_time": "2026-11-02T00:00:00Z",
        "model": "all-minilm-l6-v2",
        "attachment": str(used.attachment_id),
        "attachment_name": "EMBEDDING",
        "app": "shop",
        "key": str(used.credential_id),
        "requests": 1,
        "inputs": 2,
        "text_tokens": 17,
        "image_tokens": 3,
        "total_tokens": 20,
        "currency": "usd",
        "cost_microunits": "1.700001",
    }
    assert second["start_time"] == "2026-11-02T00:00:00Z"


async def test_a_key_sees_its_attachment(
    client: httpx.AsyncClient, use: Use, attach: Attach
) -> None:
    attachment, other = await attach(), await attach()
    await use(attachment_id=attachment.attachment_id, text_tokens=5)
    await use(attachment_id=other.attachment_id, text_tokens=7)
    assert [row["text_tokens"] for row in await rows(client, attachment.key)] == [5]
    assert [row["text_tokens"] for row in await rows(client, other.key)] == [7]


async def test_nobody_sees_what_is_anothers(
    client: httpx.AsyncClient, use: Use, attach: Attach
) -> None:
    mine, hers = await payer("a@example.com"), await payer("b@example.com")
    theirs = await use(customer_id=hers.id)
    attachment = await attach()
    for filters in ({}, {"attachment": str(theirs.attachment_id)}, {"app": theirs.app_name}):
        for token in (mine.token, attachment.key):
            assert await rows(client, token, **filters) == []
    await use(customer_id=hers.id)
    page = (await get(client, hers.token, group_by="attachment", limit=1)).json()["next_page"]
    assert page
    for token in (mine.token, attachment.key):
        assert await rows(client, token, group_by="attachment", page=page) == []


async def test_pages_follow_each_other_to_the_end(client: httpx.AsyncClient, use: Use) -> None:
    mine = await payer("a@example.com")
    used = [
        await use(customer_id=mine.id, at=START + timedelta(hours=hour), model_id=model_id)
        for hour in range(3)
        for model_id in ("a", "b")
    ]
    asked = {"bucket_width": "1h", "group_by": "model", "limit": 2}
    answers = [(await get(client, mine.token, **asked)).json()]
    while answers[-1]["has_more"]:
        page = answers[-1]["next_page"]
        answers.append((await get(client, mine.token, **asked, page=page)).json())
    found = [(row["start_time"], row["model"]) for page in answers for row in page["data"]]
    assert [len(page["data"]) for page in answers] == [2, 2, 2]
    assert len(found) == len(set(found)) == len(used)
    assert found == sorted(found)
    assert answers[-1]["next_page"] is None


async def test_filters_leave_the_others_out(client: httpx.AsyncClient, use: Use) -> None:
    mine = await payer("a@example.com")
    for model_id, app_name, name in (("a", "shop", "ONE"), ("b", "blog", "TWO"), ("c", "", "TWO")):
        await use(customer_id=mine.id, model_id=model_id, app_name=app_name, attachment_name=name)

    async def models(**filters: Any) -> list[str]:
        return [row["model"] for row in await rows(client, mine.token, group_by="model", **filters)]

    assert await models() == ["a", "b", "c"]
    assert await models(model="a,c") == ["a", "c"]
    assert await models(model=["a", "b"]) == ["a", "b"]
    assert await models(app="blog") == ["b"]
    assert await models(attachment="TWO") == ["b", "c"]
    assert await models(attachment="TWO", model="b") == ["b"]


async def test_times_may_be_written_in_several_ways(client: httpx.AsyncClient, use: Use) -> None:
    mine = await payer("a@example.com")
    await use(customer_id=mine.id, at=START + timedelta(hours=5))
    for start_time in (
        "2026-11-01T05:59:00Z",
        "2026-11-01T05:00:00",
        "2026-11-01T07:00:00+02:00",
        "2026-11-01",
        str(int(START.timestamp())),
    ):
        found = await rows(client, mine.token, bucket_width="1h", start_time=start_time)
        assert [row["start_time"] for row in found] == ["2026-11-01T05:00:00Z"], start_time
    late = {"bucket_width": "1h", "start_time": "2026-11-01T06:00:00Z"}
    assert await rows(client, mine.token, **late) == []


async def test_without_times_the_last_days_are_shown(client: httpx.AsyncClient, use: Use) -> None:
    mine = await payer("a@example.com")
    now = datetime.now(UTC)
    await use(customer_id=mine.id, at=now)
    await use(customer_id=mine.id, at=now - timedelta(days=29))
    await use(customer_id=mine.id, at=now - timedelta(days=31))
    headers = {"authorization": f"Bearer {mine.token}"}
    answer = (await client.get("/v1/usage", headers=headers)).json()
    assert len(answer["data"]) == 2


@pytest.mark.parametrize(
    "how", [{"params": {"format": "csv"}}, {"headers": {"accept": "text/csv"}}]
)
async def test_csv_has_the_same_rows(
    client: httpx.AsyncClient, use: Use, how: dict[str, dict[str, str]]
) -> None:
    mine = await payer("a@example.com")
    for app_name in ("shop", "=1+1", 'with "quotes", and commas'):
        await use(customer_id=mine.id, app_name=app_name)
    headers = {"authorization": f"Bearer {mine.token}", **how.get("headers", {})}
    parameters = {**PERIOD, "group_by": "app,attachment", "limit": "2", **how.get("params", {})}
    response = await client.get("/v1/usage", params=parameters, headers=headers)
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    found = list(csv.DictReader(io.StringIO(response.text)))
    parameters["page"] = response.headers["x-next-page"]
    last = await client.get("/v1/usage", params=parameters, headers=headers)
    assert "x-next-page" not in last.headers
    found += csv.DictReader(io.StringIO(last.text))
    assert {row["app"] for row in found} == {"shop", "'=1+1", 'with "quotes", and commas'}
    described = (await rows(client, mine.token, group_by="app,attachment"))[0]
    assert list(found[0]) == [name for name in described if name != "object"]
    assert {row["cost_microunits"] for row in found} == {"1.700001"}


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"start_time": "yesterday"}, "start_time"),
        ({"start_time": "-1"}, "start_time"),
        ({"start_time": "9" * 5_000}, "start_time"),
        ({"end_time": "2026-13-01"}, "end_time"),
        ({"end_time": "9999-12-31T23:59:59Z"}, "end_time"),
        ({"start_time": "2026-11-03", "end_time": "2026-11-01"}, "start_time"),
        ({"start_time": "2024-11-01"}, "start_time"),
        ({"start_time": "2026-09-01", "bucket_width": "1h"}, "start_time"),
        ({"bucket_width": "1m"}, "bucket_width"),
        ({"bucket_width": ["1h", "1d"]}, "bucket_width"),
        ({"group_by": "model,colour"}, "group_by"),
        ({"limit": "0"}, "limit"),
        ({"limit": "10001"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"page": "nonsense"}, "page"),
        ({"format": "xml"}, "format"),
        ({"model": "a\0b"}, "model"),
        ({"model": ",".join(map(str, range(101)))}, "model"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(
    client: httpx.AsyncClient, transactional_db: None, parameters: dict[str, Any], field: str
) -> None:
    mine = await payer("a@example.com")
    response = await get(client, mine.token, **parameters)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == field
    assert field in error["message"]


async def test_a_query_that_is_no_text_is_refused(
    client: httpx.AsyncClient, transactional_db: None
) -> None:
    mine = await payer("a@example.com")
    headers = {"authorization": f"Bearer {mine.token}"}
    response = await client.get("/v1/usage?model=%ff%fe", headers=headers)
    assert response.status_code == 400


async def test_only_a_live_key_or_token_is_answered(
    client: httpx.AsyncClient, transactional_db: None
) -> None:
    mine = await payer("a@example.com")
    assert (await client.get("/v1/usage")).json()["error"]["code"] == "missing_api_key"
    for token in ("HRKU-nothing", "inf_" + "A" * 49, "x\xff"):
        response = await client.get(
            "/v1/usage", headers={b"authorization": f"Bearer {token}".encode("latin-1")}
        )
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"

    def revoke() -> None:
        Authorization.objects.update(revoked_at=START)

    await run_in_database_thread(revoke)
    assert (await get(client, mine.token)).status_code == 401


async def test_a_database_that_does_not_answer_is_said(
    client: httpx.AsyncClient, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await payer("a@example.com")
    monkeypatch.setattr(usage_views, "READ_TIMEOUT_S", 0)
    assert (await get(client, mine.token)).status_code == 503


@pytest.mark.parametrize(
    ("picounits", "printed"),
    [
        (0, "0.000000"),
        (1, "0.000001"),
        (-1_500_000, "-1.500000"),
        (2**63 - 1, "9223372036854.775807"),
    ],
)
def test_costs_are_exact(picounits: int, printed: str) -> None:
    assert print_microunits(picounits) == printed
