"""Budgets as an account sets them by the API."""

import uuid
from typing import Any

import pytest

from addon.platform.models import Account, AddonService, App, Attachment
from billing.models import Budget
from tests.addon.platform.helpers import Api

pytestmark = pytest.mark.usefixtures("shop", "provider")

PATH = "/account/budgets"


@pytest.fixture
def attachment_id(api: Api, shop: App, provider: AddonService) -> str:
    api.add("shop", "EMBEDDING")
    return str(Attachment.objects.get().id)


def create(api: Api, **changes: object) -> Any:
    return api.post(PATH, {"scope": "account", "limit_microunits": 5_000_000, **changes})


@pytest.mark.usefixtures("attachment_id")
class TestABudget:
    def test_it_is_made_shown_changed_and_deleted(self, api: Api, account: Account) -> None:
        made = create(api, is_hard=True, thresholds=[80], email="ops@example.com")
        assert made.status_code == 201
        budget = made.json()
        expected = {
            "email": "ops@example.com", "is_hard": True, "limit_microunits": 5_000_000,
            "scope": "account", "scope_id": str(account.id), "spent_microunits": 0,
            "thresholds": [80], "webhook_url": None,
        }  # fmt: skip
        assert expected.items() <= budget.items()
        del budget["webhook_secret"]
        path = f"{PATH}/{budget['id']}"
        assert api.get(path).json() == budget
        assert api.get(PATH).json() == [budget]
        changed = api.patch(path, {"limit_microunits": 7, "email": None})
        assert changed.status_code == 200
        assert (changed.json()["limit_microunits"], changed.json()["email"]) == (7, None)
        assert changed.json()["is_hard"] is True
        assert api.delete(path).json()["id"] == budget["id"]
        assert api.get(PATH).json() == []
        assert api.get(path).status_code == 404

    def test_it_can_be_of_an_app_or_an_attachment(self, api: Api, attachment_id: str) -> None:
        for scope, scope_id in (("app", "shop"), ("attachment", attachment_id)):
            answer = create(api, scope=scope, scope_id=scope_id)
            assert (answer.status_code, answer.json()["scope_id"]) == (201, scope_id)

    def test_the_secret_of_its_webhook_is_shown_once(self, api: Api) -> None:
        budget = create(api).json()
        assert budget["webhook_secret"] is None
        path = f"{PATH}/{budget['id']}"
        changed = api.patch(path, {"webhook_url": "https://hooks.example.com/annex"}).json()
        assert changed["webhook_secret"].startswith("whsec_")
        assert "webhook_secret" not in api.get(path).json()
        assert "webhook_secret" not in api.get(PATH).json()[0]
        assert "webhook_secret" not in api.patch(path, {"is_hard": True}).json()

    def test_there_is_one_for_each_scope(self, api: Api) -> None:
        create(api)
        answer = create(api)
        assert answer.status_code == 422
        assert "already" in answer.json()["message"]

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"scope": "planet"}, "scope"),
            ({"scope": None}, "scope"),
            ({"scope_id": str(uuid.uuid4())}, "scope_id"),
            ({"limit_microunits": -1}, "limit_microunits"),
            ({"limit_microunits": 1.5}, "limit_microunits"),
            ({"limit_microunits": "5"}, "limit_microunits"),
            ({"limit_microunits": None}, "limit_microunits"),
            ({"is_hard": "yes"}, "is_hard"),
            ({"thresholds": [0]}, "thresholds"),
            ({"thresholds": [[1]]}, "thresholds"),
            ({"thresholds": "80"}, "thresholds"),
            ({"email": "nobody"}, "email"),
            ({"email": 5}, "email"),
            ({"webhook_url": "ftp://x"}, "webhook_url"),
            ({"webhook_url": ["https://x.example"]}, "webhook_url"),
            ({"hard": True}, "hard"),
        ],
    )
    def test_what_cannot_be_is_refused_by_name(
        self, api: Api, change: dict[str, object], named: str
    ) -> None:
        answer = create(api, **change)
        assert answer.status_code == 422
        assert named in answer.json()["message"]
        assert not Budget.objects.exists()
        if named in {"scope", "scope_id"}:
            return
        path = f"{PATH}/{create(api).json()['id']}"
        changed = api.patch(path, change)
        assert changed.status_code == 422
        assert named in changed.json()["message"]

    def test_a_limit_must_be_given(self, api: Api) -> None:
        answer = api.post(PATH, {"scope": "account"})
        assert "limit_microunits must be given" in answer.json()["message"]

    def test_the_scope_cannot_be_changed(self, api: Api) -> None:
        path = f"{PATH}/{create(api).json()['id']}"
        answer = api.patch(path, {"scope": "app"})
        assert answer.status_code == 422
        assert "scope cannot be set" in answer.json()["message"]

    @pytest.mark.parametrize("budget", ["x", "01234567-89ab-cdef-0123-456789abcdef"])
    def test_an_unknown_one_is_not_found(self, api: Api, budget: str) -> None:
        for method in ("GET", "PATCH", "DELETE"):
            answer = api.call(method, f"{PATH}/{budget}", {})
            assert (answer.status_code, answer.json()["resource"]) == (404, "budget")


def test_somebody_elses_is_not_found(api: Api, stranger: Api, attachment_id: str) -> None:
    path = f"{PATH}/{create(api).json()['id']}"
    for method in ("GET", "PATCH", "DELETE"):
        answer = stranger.call(method, path, {"limit_microunits": 1})
        assert (answer.status_code, answer.json()["resource"]) == (404, "budget")
    assert stranger.get(PATH).json() == []
    assert Budget.objects.get().limit_microunits == 5_000_000


def test_somebody_elses_app_and_attachment_are_not_found(stranger: Api, attachment_id: str) -> None:
    for scope, scope_id in (("app", "shop"), ("attachment", attachment_id)):
        assert create(stranger, scope=scope, scope_id=scope_id).status_code == 404
    assert not Budget.objects.exists()


def test_a_budget_needs_a_token(attachment_id: str) -> None:
    assert create(Api(token="wrong")).status_code == 401
