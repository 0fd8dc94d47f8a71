"""How lists are asked for in pages; what a range may be of is each list's own business."""

import contextlib
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from addon.lifecycle import State
from addon.platform.models import (
    Account,
    Addon,
    AddonService,
    App,
    Attachment,
    AttachmentState,
)
from addon.platform.ranges import InvalidRange, Range, parse_range
from billing.models import Plan
from tests.addon.platform.helpers import Api, new_app


@pytest.fixture
def apps(account: Account) -> list[App]:
    """app-0 to app-6."""
    return [new_app(account, f"app-{number}") for number in range(7)]


@pytest.fixture
def attachments(apps: list[App]) -> list[Attachment]:
    """Seven of one moment, of which two at a time have one name."""
    now = timezone.now()
    service = AddonService.objects.create(name="fast-db", human_name="Fast DB")
    plan = Plan.objects.create(
        service_name="fast-db", slug="tiny", human_name="Tiny",
        requests_per_minute=1, tokens_per_minute=1,
    )  # fmt: skip
    addon = Addon.objects.create(
        name="fast-db-1", app=apps[0], service=service, plan=plan, state=State.PROVISIONED,
        created_at=now, updated_at=now,
    )  # fmt: skip
    return [
        Attachment.objects.create(
            addon=addon, app=app, name=f"DB_{number // 2}", state=AttachmentState.ATTACHED,
            created_at=now, updated_at=now,
        )
        for number, app in enumerate(apps)
    ]  # fmt: skip


def follow(api: Api, path: str, header: str | None) -> list[Any]:
    """Every row that a client gets which asks for one Next-Range after the other."""
    rows: list[Any] = []
    while header is not None:
        answer = api.get(path, Range=header)
        rows += answer.json()
        header = answer.get("Next-Range")
        assert answer.status_code == (200 if header is None else 206)
    return rows


def names(rows: list[Any]) -> list[str]:
    return [row["name"] for row in rows]


def test_a_list_says_what_it_can_be_asked_by_and_what_it_answers(api: Api, apps: list[App]) -> None:
    answer = api.get("/apps")
    assert answer.status_code == 200
    assert answer["Accept-Ranges"] == "id, name"
    assert answer["Content-Range"] == "name app-0..app-6; max=200"
    assert "Next-Range" not in answer


def test_a_cut_list_is_a_206_that_says_how_it_goes_on(api: Api, apps: list[App]) -> None:
    answer = api.get("/apps", Range="name ..; order=desc,max=3;")
    assert answer.status_code == 206
    assert names(answer.json()) == ["app-6", "app-5", "app-4"]
    assert answer["Content-Range"] == "name app-6..app-4; max=3"
    assert answer["Next-Range"] == "name ]app-4..; max=3, order=desc"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("name app-2..app-4", [2, 3, 4]),
        ("name ]app-2..app-4", [3, 4]),
        ("name app-4..app-2; order=desc", [4, 3, 2]),
        ("name ..app-1", [0, 1]),
        ("name app-5..", [5, 6]),
        ("name app-55..; max=1000", [6]),
        ("name x..", []),
    ],
)
def test_a_range_has_its_ends_in_the_direction_of_its_order(
    api: Api, apps: list[App], header: str, expected: list[int]
) -> None:
    answer = api.get("/apps", Range=header)
    assert (answer.status_code, names(answer.json())) == (200, [f"app-{n}" for n in expected])


def test_an_empty_list_has_no_content_range(api: Api) -> None:
    answer = api.get("/apps")
    assert (answer.status_code, answer.json()) == (200, [])
    assert "Content-Range" not in answer


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("by", ["id", "name", "created_at"])
@pytest.mark.parametrize("path", ["/addon-attachments", "/addons/fast-db-1/addon-attachments"])
def test_following_next_range_gives_every_row_once(
    api: Api, attachments: list[Attachment], path: str, by: str, order: str
) -> None:
    rows = follow(api, path, f"{by} ..; max=2, order={order}")
    assert sorted(row["id"] for row in rows) == sorted(str(row.id) for row in attachments)
    keys = [(row[by], row["id"]) for row in rows]
    assert keys == sorted(keys, reverse=order == "desc")


def test_rows_that_come_and_go_meanwhile_neither_repeat_nor_hide_others(
    api: Api, account: Account, apps: list[App]
) -> None:
    first = api.get("/apps", Range="name ..; max=3")
    new_app(account, "app-00")
    App.objects.filter(name="app-2").update(destroyed_at=timezone.now())
    rest = api.get("/apps", Range=first["Next-Range"])
    assert names(rest.json()) == ["app-3", "app-4", "app-5"]


def test_a_page_of_a_list_is_one_query_whatever_precedes_it(api: Api, apps: list[App]) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        api.get("/apps", Range="name ]app-3..; max=2")
    (read,) = [q["sql"] for q in queries if 'FROM "platform_app"' in q["sql"]]
    assert "LIMIT 3" in read
    assert "OFFSET" not in read


def test_without_a_range_two_hundred_rows_come(api: Api, account: Account) -> None:
    App.objects.bulk_create(App(name=f"app-{n:03}", owner=account) for n in range(205))
    answer = api.get("/apps")
    assert (answer.status_code, len(answer.json())) == (206, 200)
    assert answer["Next-Range"] == "name ]app-199..; max=200"
    assert names(api.get("/apps", Range=answer["Next-Range"]).json())[-1] == "app-204"
    assert len(api.get("/apps", Range="id ..; max=1000").json()) == 205


def test_a_time_without_a_zone_is_in_utc(api: Api, attachments: list[Attachment]) -> None:
    before = (attachments[0].created_at - timedelta(seconds=1)).replace(tzinfo=None).isoformat()
    after = (attachments[0].created_at + timedelta(seconds=1)).replace(tzinfo=None).isoformat()
    for header, count in ((f"created_at {before}..{after}", 7), (f"created_at {after}..", 0)):
        assert len(api.get("/addon-attachments", Range=header).json()) == count


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("bytes=0-5", "id, name"),
        ("colour ..", "id, name"),
        ("id", "id, name"),
        ("id 5..", "no id of this list can be '5'"),
        ("id ..; max=0", "max=1 to max=1000"),
        ("id ..; max=1001", "max=1 to max=1000"),
        ("id ..; order=up", "order=asc and order=desc"),
        ("id ..; limit=5", "not 'limit=5'"),
        ("name %00..", "no name"),
        ("name ]app-1~5..", "no name"),
    ],
)
def test_a_range_that_cannot_be_answered_is_a_416_that_says_what_can(
    api: Api, header: str, allowed: str
) -> None:
    answer = api.get("/apps", Range=header)
    error = answer.json()
    assert (answer.status_code, error["id"]) == (416, "requested_range_not_satisfiable")
    assert allowed in error["message"]


def test_a_short_list_comes_in_its_own_order_or_the_one_that_is_asked_for(
    api: Api,
) -> None:
    plain = api.get("/regions")
    assert names(plain.json()) == ["us", "eu"]
    assert plain["Accept-Ranges"] == "id, name"
    assert names(follow(api, "/regions", "name ..; max=1")) == ["eu", "us"]
    assert names(follow(api, "/regions", "name ..; max=1, order=desc")) == ["us", "eu"]
    assert names(api.get("/regions", Range="name f..").json()) == ["us"]
    assert names(api.get("/regions", Range="name us..f; order=desc").json()) == ["us"]
    assert api.get("/regions", Range="country ..").status_code == 416


@pytest.mark.parametrize(
    ("first", "status"),
    [
        ("2020-01-01T00:00:00%2B23:00", 200),
        ("9999-12-31T23:59:59-23:00", 416),
        ("0001-01-01T00:00:00%2B23:00", 416),
    ],
)
def test_a_time_in_a_zone_that_nobody_lives_in_is_a_time(
    api: Api, account: Account, first: str, status: int
) -> None:
    answer = api.get("/addon-attachments", Range=f"created_at {first}..")
    assert answer.status_code == status


@pytest.mark.parametrize("header", [f"id {'.' * 50_000} x", f"id {' ' * 50_000}x", "i" * 50_000])
def test_a_long_header_is_refused_in_no_time(header: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRange):
        parse_range(header, ["id", "name"])
    assert time.process_time() - began < 1  # trying each dot as the end took five minutes


@given(st.text(max_size=40))
def test_no_header_breaks_the_parser(header: str) -> None:
    with contextlib.suppress(InvalidRange):
        assert isinstance(parse_range(header, ["id", "name"]), Range)


@given(st.from_regex(r"\A(id|name|created_at) \]?[^;]{0,40}\.\.[^;]{0,9}(; ?max=[0-9]{1,3})?\Z"))
@pytest.mark.django_db(transaction=True)
def test_no_value_in_a_range_is_a_server_error(header: str) -> None:
    account = Account(id=uuid.uuid4())
    from addon.platform import ranges
    from addon.platform.attachment_lists import list_attachments

    class Request:
        headers = {"Range": header}

    with contextlib.suppress(InvalidRange):
        ranges.answer(
            Request(),  # type: ignore[arg-type]
            list_attachments(account),
            sortable={"id": "id", "name": "name", "created_at": "created_at"},
            default="id",
            to_json=lambda _: [],
        )
