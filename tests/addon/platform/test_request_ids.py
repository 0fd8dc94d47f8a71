import logging
import uuid
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from addon.platform import heroku_apps
from addon.platform.models import App
from addon.platform.request_ids import RequestMark
from tests.addon.platform.helpers import Api

pytestmark = pytest.mark.django_db


def test_every_answer_has_an_id_of_its_own(api: Api, shop: App) -> None:
    etag = api.get("/apps/shop")["ETag"]
    answers = [
        api.get("/account"),
        api.get("/apps/nosuch"),
        api.get("/nosuch"),
        api.get("/account", Accept="text/html"),
        api.get("/apps/shop", **{"If-None-Match": etag}),
        api.call("PUT", "/apps"),
        Client().get("/account"),
        Client().get("/addon-services"),
        Client().get("/account", headers={"Host": "elsewhere.example.com"}),
    ]
    expected = [200, 404, 404, 406, 304, 405, 401, 200, 400]
    assert [answer.status_code for answer in answers] == expected
    ids = {str(uuid.UUID(answer["Request-Id"])) for answer in answers}
    assert len(ids) == len(answers)


def test_a_failure_has_one_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(heroku_apps, "list_apps", fail)
    client = Client(raise_request_exception=False)
    answer = client.get("/apps", headers={"Authorization": f"Bearer {api.token}"})
    assert answer.status_code == 500
    assert str(uuid.UUID(answer["Request-Id"])) == answer["Request-Id"]


def test_a_list_of_seven_kilobytes_is_taken(api: Api) -> None:
    ids = ",".join(str(uuid.uuid4()) for _ in range(190))
    answer = api.get("/account", **{"Request-Id": ids})
    assert answer.status_code == 200
    assert answer["Request-Id"] not in ids


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stands before a log line that is written while apps are listed."""
    seen: list[str] = []
    listed = heroku_apps.list_apps
    logged: Any = settings.LOGGING
    line = logged["formatters"]["line"]["format"]

    def list_apps(*args: object) -> object:
        record = logging.makeLogRecord({"msg": "listing"})
        assert RequestMark().filter(record)
        seen.append(logging.Formatter(line).format(record))
        return listed(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(heroku_apps, "list_apps", list_apps)
    return seen


def test_what_is_logged_meanwhile_names_the_request(api: Api, marks: list[str]) -> None:
    client_id = str(uuid.uuid4())
    answer = api.get("/apps", **{"Request-Id": f"{client_id},{uuid.uuid4()}"})
    assert marks[0].endswith(f"[request {answer['Request-Id']}, the client's {client_id}] listing")


@pytest.mark.parametrize("sent", ["a b", "x" * 65, "é", "1\x1b[31m", "] ERROR"])
def test_what_could_do_harm_in_a_log_is_left_out(api: Api, marks: list[str], sent: str) -> None:
    answer = api.get("/apps", **{"Request-Id": sent})
    assert marks[0].endswith(f"[request {answer['Request-Id']}] listing")
    assert answer["Request-Id"] != sent


def test_what_is_logged_outside_of_requests_has_no_mark() -> None:
    record = logging.makeLogRecord({})
    assert RequestMark().filter(record)
    assert vars(record)["request_mark"] == ""
