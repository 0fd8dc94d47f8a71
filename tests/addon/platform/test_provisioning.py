"""Ordering an add-on: the straight line, and every way in which a provider can bend it."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from addon.lifecycle import State
from addon.platform import provider_client
from addon.platform.models import Addon, AddonService, App, Attachment
from addon.provider.credentials import find_identity
from addon.provider.models import Resource
from billing.models import Plan
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api, new_app, only_addon, register_bad

# Heroku's schema requires these of an add-on, and the CLI reads them.
REQUIRED = {
    "actions", "addon_service", "app", "billed_price", "billing_entity", "config_vars",
    "created_at", "id", "name", "plan", "provider_id", "state", "updated_at", "web_url",
}  # fmt: skip


@pytest.mark.usefixtures("shop", "provider")
class TestWithOurOwnProvider:
    def test_an_addon_comes_with_vars_under_its_alias_and_one_release(self, api: Api) -> None:
        answer = api.add("shop", "embedding")
        assert answer.status_code == 201
        addon = answer.json()
        assert addon["state"] == "provisioned"
        assert addon["config_vars"] == ["EMBEDDING_KEY", "EMBEDDING_MODEL_ID", "EMBEDDING_URL"]
        config = api.config("shop")
        assert list(config) == addon["config_vars"]
        assert config["EMBEDDING_MODEL_ID"] == "all-minilm-l6-v2"
        assert config["EMBEDDING_URL"] == settings.INFERENCE_URL
        assert api.releases("shop") == ["Initial release", f"Attach EMBEDDING ({addon['name']})"]
        newest = api.get("/apps/shop/releases/2").json()
        assert newest["addon_plan_names"] == ["heroku-inference:standard"]

    def test_the_key_belongs_to_the_attachment(self, api: Api) -> None:
        addon = api.add("shop", "EMBEDDING").json()
        identity = find_identity(api.config("shop")["EMBEDDING_KEY"])
        assert identity is not None
        assert identity.attachment_id == Attachment.objects.get().id
        assert (identity.attachment_name, identity.app_name) == ("EMBEDDING", "shop")
        assert str(identity.resource_id) == addon["id"] == addon["provider_id"]

    def test_the_answer_has_what_schema_and_cli_need(self, api: Api, shop: App) -> None:
        addon = api.add("shop").json()
        assert set(addon) == REQUIRED | {"provision_message"}
        assert addon["app"] == {"id": str(shop.id), "name": "shop"}
        assert addon["billing_entity"] == {"id": str(shop.id), "name": "shop", "type": "app"}
        assert addon["addon_service"]["name"] == "heroku-inference"
        assert addon["addon_service"]["human_name"] == "Managed Inference"
        assert addon["plan"]["name"] == "heroku-inference:standard"
        for price in (addon["plan"]["price"], addon["billed_price"]):
            assert price == {"cents": 0, "contract": False, "metered": True, "unit": "month"}
        assert "all-minilm-l6-v2" in addon["provision_message"]

    def test_a_name_is_made_up_or_taken(self, api: Api) -> None:
        made_up = api.add("shop").json()["name"]
        assert made_up.startswith("inference-")
        assert made_up.rpartition("-")[2].isdigit()
        assert api.add("shop", name="my-embedder").json()["name"] == "my-embedder"

    def test_default_aliases_differ(self, api: Api) -> None:
        for _ in range(3):
            api.add("shop")
        names = [row["name"] for row in api.get("/apps/shop/addon-attachments").json()]
        assert names == ["INFERENCE", "INFERENCE_AQUA", "INFERENCE_BLACK"]

    @pytest.mark.parametrize("attachment", [None, {}, {"name": None}])
    def test_an_absent_alias_is_the_default(self, api: Api, attachment: object) -> None:
        body = {"plan": "heroku-inference:standard", "attachment": attachment}
        api.post("/apps/shop/addons", body)
        assert Attachment.objects.get().name == "INFERENCE"

    def test_a_plan_is_a_string_or_a_name_or_an_id(self, api: Api) -> None:
        plan_id = str(Plan.objects.get(slug="standard").id)
        for plan in (
            "heroku-inference",
            "heroku-inference:standard",
            {"name": "heroku-inference"},
            {"id": plan_id},
            plan_id,
        ):
            answer = api.post("/apps/shop/addons", {"plan": plan})
            assert (answer.status_code, answer.json()["plan"]["id"]) == (201, plan_id)

    @pytest.mark.parametrize(
        "plan", ["heroku-inference:nosuch", "nosuch", "nosuch:standard", "a:b:c", ":"]
    )
    def test_an_unknown_plan_is_refused_in_the_words_that_the_cli_looks_for(
        self, api: Api, plan: str
    ) -> None:
        answer = api.post("/apps/shop/addons", {"plan": {"name": plan}})
        assert answer.status_code == 422
        assert answer.json() == {
            "id": "invalid_params",
            "message": f'Couldn\'t find either the add-on service or the add-on plan of "{plan}".',
        }

    def test_a_plan_that_is_not_on_sale_is_refused(self, api: Api) -> None:
        Plan.objects.update(is_visible=False)
        assert api.add("shop", plan="heroku-inference:standard").status_code == 422

    def test_options_reach_the_provider_as_strings(self, api: Api) -> None:
        api.add("shop", config={"model": "bge-m3", "dims": "1024", "strict": True})
        expected = {"model": "bge-m3", "dims": "1024", "strict": "true"}
        assert Resource.objects.get().options == expected

    def test_the_region_of_the_app_reaches_the_provider(self, api: Api, shop: App) -> None:
        new_app(shop.owner, "europe", "eu")
        api.add("shop")
        api.add("europe")
        regions = set(Resource.objects.values_list("region", flat=True))
        assert regions == {"us", "eu"}

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("plan", None),
            ("plan", 5),
            ("plan", {}),
            ("plan", {"name": 5}),
            ("attachment", "EMBEDDING"),
            ("name", 5),
            ("name", "5five"),
            ("name", "a"),
            ("name", "abcdef01-89ab-cdef-0123-456789abcdef"),
            ("config", ["x"]),
            ("config", {"dims": 1024}),
            ("confirm", True),
        ],
    )
    def test_a_wrong_field_is_named(self, api: Api, field: str, value: object) -> None:
        answer = api.post("/apps/shop/addons", {"plan": "heroku-inference", field: value})
        assert (answer.status_code, answer.json()["id"]) == (422, "invalid_params")
        assert field in answer.json()["message"] or "name" in answer.json()["message"]
        assert not Addon.objects.exists()

    @pytest.mark.parametrize("alias", ["2ND", "MY-ALIAS", "_A", ""])
    def test_a_wrong_alias_is_refused_and_nothing_left(self, api: Api, alias: str) -> None:
        answer = api.add("shop", alias)
        assert answer.status_code == 422
        assert "start with a letter" in answer.json()["message"]
        assert not Addon.objects.exists()

    def test_a_taken_name_is_refused(self, api: Api) -> None:
        api.add("shop", name="my-embedder")
        answer = api.add("shop", name="my-embedder")
        assert answer.status_code == 422
        assert answer.json()["message"] == "Name my-embedder is already taken"
        assert Addon.objects.count() == 1

    def test_the_name_of_a_destroyed_addon_is_free(self, api: Api) -> None:
        first = api.add("shop", name="my-embedder").json()
        api.delete(f"/apps/shop/addons/{first['id']}")
        again = api.add("shop", name="my-embedder")
        assert (again.status_code, again.json()["id"] != first["id"]) == (201, True)

    def test_parallel_orders_of_one_alias_make_one_addon(self, api: Api) -> None:
        barrier = threading.Barrier(2)
        statuses: list[int] = []

        def order() -> None:
            barrier.wait()
            statuses.append(api.add("shop", "EMBEDDING").status_code)
            connection.close()

        threads = [threading.Thread(target=order) for _ in range(2)]
        connection.close()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # The second finds the first under way (422) or already there (423).
        assert statuses.count(201) == 1, statuses
        assert {*statuses} <= {201, 422, 423}
        assert Addon.objects.count() == Attachment.objects.count() == 1
        assert api.releases("shop")[1:] == [f"Attach EMBEDDING ({only_addon().name})"]


@pytest.mark.usefixtures("shop")
class TestWithAnotherProvider:
    """What the provider is sent, and what follows from each of its answers."""

    def test_the_provider_is_called_by_the_contract(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        api.add("shop", "DB", plan="fast-db:tiny", config={"size": "s"})
        addon = only_addon()
        (call,) = bad_provider.calls
        grant = call.body.pop("oauth_grant")
        assert (len(grant["code"]), grant["type"]) == (36, "authorization_code")
        assert (call.method, call.path) == ("POST", "/heroku/resources")
        assert call.headers["Accept"] == "application/vnd.heroku-addons+json; version=3"
        assert call.headers["Content-Type"] == "application/json"
        assert call.headers["Authorization"] == "Basic ZmFzdC1kYjpwYXJ0bmVyLXBhc3N3b3Jk"
        assert call.body == {
            "uuid": str(addon.id),
            "name": addon.name,
            "plan": "tiny",
            "region": "amazon-web-services::us-east-1",
            "callback_url": f"{settings.PUBLIC_URL}/addons/{addon.id}",
            "options": {"size": "s"},
            "attachment": {
                "id": str(Attachment.objects.get().id),
                "name": "DB",
                "app": "shop",
            },
        }

    def test_one_without_our_extension_is_sent_no_attachment(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        register_bad(bad_provider, attachment_credentials=False)
        api.add("shop", "DB", plan="fast-db")
        assert "attachment" not in bad_provider.calls[0].body
        assert api.config("shop") == {"DB_URL": "db://first"}

    def test_no_transaction_is_open_while_it_is_called(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        """The row is visible to others, and no lock is held that would stop them."""
        seen: list[Any] = []

        def look() -> None:
            seen.append(only_addon().state)
            seen.append(api.patch("/apps/shop/config-vars", {"FOO": "bar"}).status_code)
            connection.close()

        bad_provider.will("POST", 201, {"id": "fd-1", "config": {}}, before=look)
        assert api.add("shop", plan="fast-db").status_code == 201
        assert seen == ["provisioning", 200]

    def test_no_database_connection_is_held_while_it_is_called(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        """Else a process whose every connection waits for its own provider would wait for ever."""
        held: list[int] = []

        def look() -> None:
            stats = connection.pool.get_stats()  # type: ignore[attr-defined]
            held.append(stats["pool_size"] - stats["pool_available"])

        bad_provider.will("POST", 201, {"id": "fd-1", "config": {}}, before=look)
        api.add("shop", plan="fast-db")
        assert held == [0]

    @pytest.mark.parametrize("status", [200, 201])
    def test_done(self, api: Api, bad_provider: BadProvider, status: int) -> None:
        body = {"id": 77, "config": {"FAST_DB_URL": "db://x"}, "message": "Enjoy"}
        bad_provider.will("POST", status, body)
        addon = api.add("shop", "DB", plan="fast-db").json()
        assert addon["state"] == "provisioned"
        assert addon["provider_id"] == "77"
        assert addon["provision_message"] == "Enjoy"
        assert addon["billed_price"]["cents"] == 500
        assert api.config("shop") == {"DB_URL": "db://x"}

    def test_vars_that_the_manifest_lacks_are_not_set(
        self, api: Api, bad_provider: BadProvider, caplog: pytest.LogCaptureFixture
    ) -> None:
        body = {"id": "x", "config": {"FAST_DB_URL": "db://x", "PATH": "secret-path"}}
        bad_provider.will("POST", 201, body)
        api.add("shop", "DB", plan="fast-db")
        assert api.config("shop") == {"DB_URL": "db://x"}
        assert "PATH" in caplog.text
        assert "secret-path" not in caplog.text

    def test_accepted_stays_provisioning_for_twelve_hours(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 202, {"id": "fd-1", "message": "Working on it"})
        addon = api.add("shop", "DB", plan="fast-db").json()
        assert (addon["state"], addon["config_vars"]) == ("provisioning", [])
        assert addon["provision_message"] == "Working on it"
        assert api.config("shop") == {}
        assert api.releases("shop") == ["Initial release"]
        row = only_addon()
        assert row.deadline_at == row.next_attempt_at == row.created_at + timedelta(hours=12)
        assert api.get(f"/apps/shop/addons/{addon['name']}").json()["state"] == "provisioning"

    @pytest.mark.parametrize("status", [422, 503])
    def test_refused_shows_the_providers_message_and_leaves_nothing(
        self, api: Api, bad_provider: BadProvider, status: int
    ) -> None:
        bad_provider.will("POST", status, {"message": "No room in this region."})
        answer = api.add("shop", "DB", plan="fast-db", name="my-db")
        assert answer.status_code == status
        assert answer.json()["message"] == "No room in this region."
        assert api.get("/addons").json() == []
        assert api.get("/addon-attachments").json() == []
        assert api.get("/addons/my-db").status_code == 404
        assert api.releases("shop") == ["Initial release"]
        bad_provider.will("POST", 201, {"id": "x", "config": {}})
        assert api.add("shop", "DB", plan="fast-db", name="my-db").status_code == 201

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (500, {"message": "Traceback: secret"}),
            (422, {}),
            (422, {"message": 5}),
            (503, b"<h1>down</h1>"),
            (401, {"message": "secret"}),
            (404, {"message": "secret"}),
            (302, b""),
            (204, b""),
            (201, b"not json, secret"),
            (201, b""),
            (201, []),
            (201, {"config": {"FAST_DB_URL": "db://x"}}),
            (201, {"id": "x", "config": {"FAST_DB_URL": 5}}),
            (201, {"id": "x", "config": {"FAST_DB_URL": "a\u0000b"}}),
            (201, {"id": "x", "config": "secret"}),
            (201, {"id": "x"}),
            (201, {"id": True, "config": {}}),
            (200, b"x" * 1_000_001),
            (200, b"[" * 100_000),
        ],
    )
    def test_an_unclear_answer_is_created_in_the_background(
        self, api: Api, bad_provider: BadProvider, status: int, body: object
    ) -> None:
        bad_provider.will("POST", status, body)
        answer = api.add("shop", "DB", plan="fast-db")
        assert answer.status_code == 201
        assert answer.json()["state"] == "provisioning"
        assert "secret" not in answer.content.decode()
        assert api.config("shop") == {}
        row = only_addon()
        assert "secret" not in row.last_error
        assert row.last_error
        assert row.next_attempt_at is not None
        assert row.deadline_at == row.created_at + timedelta(hours=24)

    @pytest.mark.parametrize("how", ["hangs", "trickles"])
    def test_a_provider_that_does_not_finish_in_time_is_given_up(
        self, api: Api, bad_provider: BadProvider, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        monkeypatch.setattr(provider_client, "CALL_TIMEOUT_S", 0.5)
        bad_provider.will("POST", 201, **{how: True})
        answer = api.add("shop", "DB", plan="fast-db")
        assert answer.json()["state"] == "provisioning"
        assert only_addon().last_error.startswith("the provider")

    def test_a_provider_that_is_not_there_is_tried_later(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        AddonService.objects.update(base_url="http://127.0.0.1:1/heroku/resources")
        assert api.add("shop", "DB", plan="fast-db").json()["state"] == "provisioning"
        assert "ConnectError" in only_addon().last_error

    def test_no_secret_is_logged(
        self, api: Api, bad_provider: BadProvider, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        api.add("shop", "DB", plan="fast-db")
        bad_provider.will("POST", 500, {"message": "db://first"})
        api.add("shop", "OTHER", plan="fast-db")
        for secret in ("db://first", "partner-password", api.token, "ZmFzdC1kYjpwYX"):
            assert secret not in caplog.text

    def test_a_service_may_allow_one_installation_per_app(
        self, api: Api, blog: App, bad_provider: BadProvider
    ) -> None:
        register_bad(bad_provider, requires=())
        first = api.add("shop", plan="fast-db").json()
        answer = api.add("shop", plan="fast-db")
        assert answer.status_code == 422
        assert first["name"] in answer.json()["message"]
        assert api.add("blog", plan="fast-db").status_code == 201
        api.delete(f"/apps/shop/addons/{first['name']}")
        assert api.add("shop", plan="fast-db").status_code == 201

    def test_one_that_is_destroyed_while_the_provider_works_stays_destroyed(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        """The removal waits until the provision is surely over, so that it does not overtake it."""
        answers: list[Any] = []

        def destroy() -> None:
            answers.append(api.delete(f"/apps/shop/addons/{only_addon().id}"))
            connection.close()

        bad_provider.will("POST", 201, {"id": "x", "config": {}}, before=destroy)
        created = api.add("shop", "DB", plan="fast-db")
        assert answers[0].json()["state"] == "deprovisioning"
        assert created.json()["state"] == "deprovisioning"
        assert bad_provider.methods() == ["POST"]
        row = only_addon()
        assert row.state == State.DEPROVISIONING
        assert row.next_attempt_at is not None
        assert api.config("shop") == {}
        assert api.releases("shop") == ["Initial release"]
