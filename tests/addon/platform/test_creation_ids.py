import uuid

import pytest

from addon.platform.creation_ids import creation_id

ACCOUNT = uuid.uuid4()
FIRST = "1f0e2d3c-4b5a-4697-8877-665544332211"
BODY = {"plan": {"name": "heroku-inference"}, "name": None}


def id_of(
    account: uuid.UUID = ACCOUNT,
    ids: str = FIRST,
    method: str = "POST",
    path: str = "/apps/shop/addons",
    body: object = BODY,
) -> uuid.UUID:
    return creation_id(account, ids, method, path, body)


def test_a_request_that_is_sent_again_makes_the_same_id() -> None:
    assert id_of() == id_of()
    assert id_of(body={"name": None, "plan": {"name": "heroku-inference"}}) == id_of()


def test_only_the_first_of_the_ids_counts() -> None:
    assert id_of(ids=f"{FIRST},{uuid.uuid4()}, {uuid.uuid4()}") == id_of()
    assert id_of(ids=f" {FIRST.upper()} ") == id_of()
    assert id_of(ids=f"{uuid.uuid4()},{FIRST}") != id_of()


def test_another_request_makes_another_id() -> None:
    ids = {
        id_of(),
        id_of(account=uuid.uuid4()),
        id_of(method="PUT"),
        id_of(path="/apps/blog/addons"),
        id_of(body={**BODY, "name": "mine"}),
        id_of(body={}),
    }
    assert len(ids) == 6


@pytest.mark.parametrize("ids", ["", ",", "1", f"x,{FIRST}", FIRST.replace("-", ""), "é"])
def test_without_a_uuid_at_the_head_every_request_is_a_new_one(ids: str) -> None:
    assert id_of(ids=ids) != id_of(ids=ids)
