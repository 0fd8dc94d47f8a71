from email.utils import parsedate_to_datetime

import pytest

from addon.platform.models import Account, App
from tests.addon.platform.helpers import Api, new_app


def test_an_answer_has_a_strong_etag_that_changes_with_it(api: Api, shop: App) -> None:
    first, again = api.get("/apps/shop/config-vars"), api.get("/apps/shop/config-vars")
    assert first["ETag"] == again["ETag"]
    assert first["ETag"].startswith('"')
    api.patch("/apps/shop/config-vars", {"A": "1"})
    assert api.get("/apps/shop/config-vars")["ETag"] != first["ETag"]


@pytest.mark.parametrize("spelling", ["{}", "W/{}", '"other", {}', "*"])
def test_who_has_the_answer_gets_a_304_without_a_body(api: Api, shop: App, spelling: str) -> None:
    whole = api.get("/apps/shop")
    answer = api.get("/apps/shop", **{"If-None-Match": spelling.format(whole["ETag"])})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer["ETag"] == whole["ETag"]
    assert "Request-Id" in answer
    assert int(answer["RateLimit-Remaining"]) == int(whole["RateLimit-Remaining"]) - 1


def test_who_has_an_old_answer_gets_the_new_one(api: Api, shop: App) -> None:
    answer = api.get("/apps/shop", **{"If-None-Match": '"old"'})
    assert (answer.status_code, answer.json()["name"]) == (200, "shop")


def test_a_page_of_a_list_has_an_etag_too(api: Api, account: Account) -> None:
    for name in ("app-1", "app-2"):
        new_app(account, name)
    page = api.get("/apps", Range="name ..; max=1")
    again = api.get("/apps", Range="name ..; max=1", **{"If-None-Match": page["ETag"]})
    assert (page.status_code, again.status_code) == (206, 304)


def test_errors_have_no_etag(api: Api) -> None:
    assert "ETag" not in api.get("/apps/nosuch")


def test_last_modified_is_when_the_row_was_updated(api: Api, shop: App) -> None:
    answer = api.get("/apps/shop")
    shop.refresh_from_db()
    modified = parsedate_to_datetime(answer["Last-Modified"])
    assert modified == shop.updated_at.replace(microsecond=0)
    assert "Last-Modified" not in api.get("/apps")


def test_a_date_alone_never_makes_a_304(api: Api, shop: App) -> None:
    modified = api.get("/apps/shop")["Last-Modified"]
    assert api.get("/apps/shop", **{"If-Modified-Since": modified}).status_code == 200


def test_no_cache_keeps_an_answer_without_asking(api: Api, shop: App) -> None:
    assert api.get("/apps/shop/config-vars")["Cache-Control"] == "private, no-cache"


def test_a_get_of_what_is_not_there_any_more_is_a_412(api: Api, shop: App) -> None:
    etag = api.get("/apps/shop")["ETag"]
    assert api.get("/apps/shop", **{"If-Match": etag}).status_code == 200
    answer = api.get("/apps/shop", **{"If-Match": '"old"'})
    assert (answer.status_code, answer.json()["id"]) == (412, "precondition_failed")
    assert "If-Match" in answer.json()["message"]
    assert "RateLimit-Remaining" in answer


def test_nothing_is_changed_when_it_is_not_what_the_client_saw(api: Api, shop: App) -> None:
    path = "/apps/shop/config-vars"
    seen = api.get(path)["ETag"]
    api.patch(path, {"A": "1"})
    answer = api.call("PATCH", path, {"A": "2"}, **{"If-Match": seen})
    assert (answer.status_code, answer.json()["id"]) == (412, "precondition_failed")
    assert api.config("shop") == {"A": "1"}
    now = api.get(path)["ETag"]
    assert api.call("PATCH", path, {"A": "2"}, **{"If-Match": now}).status_code == 200
    assert api.config("shop") == {"A": "2"}


def test_a_delete_may_have_a_condition_too(api: Api, shop: App) -> None:
    refused = api.call("DELETE", "/apps/shop", **{"If-Match": '"old"'})
    assert refused.status_code == 412
    assert api.get("/apps/shop").status_code == 200
    etag = api.get("/apps/shop")["ETag"]
    assert api.call("DELETE", "/apps/shop", **{"If-Match": etag}).status_code == 200


def test_a_condition_on_what_cannot_be_seen_is_a_404(stranger: Api, shop: App) -> None:
    answer = stranger.call("DELETE", "/apps/shop", **{"If-Match": "*"})
    assert answer.status_code == 404
