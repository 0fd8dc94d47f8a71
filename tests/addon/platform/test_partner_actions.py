"""What a provider that was answered 202 does by calling back, and what follows if it does not."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from addon.lifecycle import State
from addon.platform.models import Account, Addon, AddonService, Attachment, Notification
from billing.models import Plan, Subscription
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import (
    Api,
    config_body,
    fast_db_answer,
    new_app,
    only_addon,
    partner_api,
    register_bad,
    selling_bad_provider,
)
from tests.addon.rounds_in_turn import reconcile_platform as reconcile

pytestmark = pytest.mark.usefixtures("shop")

PROVISION, DEPROVISION = "/addons/my-db/actions/provision", "/addons/my-db/actions/deprovision"
CONFIG = "/addons/my-db/config"
IN_TIME, TOO_LATE = timedelta(hours=11, minutes=59), timedelta(hours=12, seconds=1)


def reconcile_after(wait: timedelta) -> None:
    moment = timezone.now() + wait
    reconcile(lambda: moment)


def titles() -> list[str]:
    return list(Notification.objects.values_list("title", flat=True))


@pytest.fixture
def bad_provider(db: None) -> Iterator[BadProvider]:
    """In one transaction, for nobody but the test asks the database; that is quicker."""
    with selling_bad_provider() as provider:
        yield provider


@pytest.fixture(params=[True, False], ids=["keys per attachment", "one config"])
def has_keys(request: pytest.FixtureRequest, bad_provider: BadProvider) -> bool:
    is_per_attachment: bool = request.param
    register_bad(bad_provider, attachment_credentials=is_per_attachment)
    return is_per_attachment


@pytest.fixture
def waiting(api: Api, bad_provider: BadProvider) -> Api:
    """Of the add-on my-db, which its provider makes in the background; as the provider calls."""
    bad_provider.will("POST", 202, {"id": "fd-1", "message": "Working on it"})
    assert api.add("shop", "DB", plan="fast-db", name="my-db").status_code == 201
    return partner_api(bad_provider)


@pytest.fixture
def provisioned(api: Api, bad_provider: BadProvider) -> Api:
    """Of the add-on my-db, which is also attached to blog; as the provider calls."""
    bad_provider.will("POST", 201, fast_db_answer("up"))
    api.add("shop", "DB", plan="fast-db", name="my-db")
    return partner_api(bad_provider)


class TestProvisioning:
    def test_one_release_at_its_end_and_none_before(
        self, api: Api, has_keys: bool, waiting: Api
    ) -> None:
        answer = waiting.patch(CONFIG, config_body(FAST_DB_URL="db://async"))
        assert answer.json() == [{"name": "FAST_DB_URL", "value": "db://async"}]
        assert api.config("shop") == {}
        assert api.releases("shop") == ["Initial release"]
        made = waiting.post(PROVISION, {})
        assert (made.status_code, made.json()["state"]) == (200, "provisioned")
        assert made.json()["provider_id"] == "fd-1"
        assert api.config("shop") == {"DB_URL": "db://async"}
        assert api.releases("shop") == ["Initial release", "Attach DB (my-db)"]
        addon = only_addon()
        assert (addon.next_attempt_at, addon.deadline_at) == (None, None)
        assert bool(addon.resource_config) != has_keys

    def test_is_done_for_whoever_waits(self, api: Api, waiting: Api) -> None:
        path = "/apps/shop/addons/my-db"
        assert api.get(path).json()["state"] == "provisioning"
        waiting.patch(CONFIG, config_body(FAST_DB_URL="db://async"))
        waiting.post(PROVISION, {})
        assert api.get(path).json()["state"] == "provisioned"
        assert api.get(path).json()["config_vars"] == ["DB_URL"]

    def test_takes_the_config_of_the_first_attachment_too(self, api: Api, waiting: Api) -> None:
        attachment = Attachment.objects.get()
        path = f"/addon-attachments/{attachment.id}/config"
        answer = waiting.patch(path, config_body(FAST_DB_URL="db://its-own"))
        assert answer.status_code == 200
        assert api.config("shop") == {}
        waiting.post(PROVISION, {})
        assert api.config("shop") == {"DB_URL": "db://its-own"}

    def test_a_repeat_changes_nothing(self, api: Api, waiting: Api) -> None:
        for _ in range(2):
            assert waiting.patch(CONFIG, config_body(FAST_DB_URL="x")).status_code == 200
        for _ in range(2):
            assert waiting.post(PROVISION, {}).status_code == 200
        assert waiting.patch(CONFIG, config_body(FAST_DB_URL="x")).status_code == 200
        assert len(api.releases("shop")) == 2

    @pytest.mark.django_db(transaction=True)
    def test_may_be_called_back_before_the_answer_is_read(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        def call_back() -> None:
            partner = partner_api(bad_provider)
            partner.patch(CONFIG, config_body(FAST_DB_URL="db://quick"))
            partner.post(PROVISION, {})
            connection.close()

        bad_provider.will("POST", 202, {"id": "fd-1"}, before=call_back)
        answer = api.add("shop", "DB", plan="fast-db", name="my-db").json()
        assert (answer["state"], answer["provider_id"]) == ("provisioned", "fd-1")
        assert api.config("shop") == {"DB_URL": "db://quick"}
        assert len(api.releases("shop")) == 2

    @pytest.mark.django_db(transaction=True)
    def test_keeps_what_the_provider_set_before_its_answer_was_read(
        self, api: Api, has_keys: bool, bad_provider: BadProvider
    ) -> None:
        def call_back() -> None:
            config = config_body(FAST_DB_URL="db://newer", FAST_DB_TOKEN=None)
            assert partner_api(bad_provider).patch(CONFIG, config).status_code == 200
            connection.close()

        AddonService.objects.update(config_vars=["FAST_DB_URL", "FAST_DB_TOKEN", "FAST_DB_PORT"])
        config = {"FAST_DB_URL": "db://old", "FAST_DB_TOKEN": "old", "FAST_DB_PORT": "1"}
        bad_provider.will("POST", 201, {"id": "fd-1", "config": config}, before=call_back)
        api.add("shop", "DB", plan="fast-db", name="my-db")
        assert api.config("shop") == {"DB_URL": "db://newer", "DB_PORT": "1"}
        assert len(api.releases("shop")) == 2
        api.attach("my-db", "shop", "SECOND")
        if not has_keys:
            assert api.config("shop").keys() == {"DB_URL", "DB_PORT", "SECOND_URL", "SECOND_PORT"}

    def test_that_takes_too_long_fails_is_removed_and_costs_nothing(
        self, api: Api, bad_provider: BadProvider, waiting: Api
    ) -> None:
        waiting.patch(CONFIG, config_body(FAST_DB_URL="db://async"))
        reconcile_after(IN_TIME)
        assert only_addon().state == State.PROVISIONING
        reconcile_after(TOO_LATE)
        assert only_addon().state == State.DEPROVISIONED
        assert bad_provider.methods() == ["POST", "DELETE"]
        assert api.get("/apps/shop/addons/my-db").json()["state"] == "deprovisioned"
        assert api.releases("shop") == ["Initial release"]
        subscription = Subscription.objects.get()
        assert subscription.start_at == subscription.end_at
        assert titles() == ["my-db was not created"]
        for path in (PROVISION, DEPROVISION):
            assert waiting.post(path, {}).status_code == 410
        assert api.config("shop") == {}

    def test_has_its_hours_from_when_it_was_accepted_within_the_day(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", "DB", plan="fast-db", name="my-db")
        bad_provider.will("POST", 202, {"id": "fd-1"})
        reconcile_after(timedelta(hours=13))
        reconcile_after(timedelta(hours=23, minutes=59))
        assert only_addon().state == State.PROVISIONING
        assert bad_provider.methods() == ["POST", "POST"]
        reconcile_after(timedelta(hours=24))
        assert only_addon().state == State.DEPROVISIONED

    def test_that_the_provider_cannot_do_fails_at_once(
        self, api: Api, bad_provider: BadProvider, waiting: Api
    ) -> None:
        answer = waiting.post(DEPROVISION, {})
        assert (answer.status_code, answer.json()["state"]) == (200, "deprovisioned")
        assert bad_provider.methods() == ["POST"]
        assert api.get("/apps/shop/addons/my-db").json()["state"] == "deprovisioned"
        assert api.get("/apps/shop/addons").json() == []
        subscription = Subscription.objects.get()
        assert subscription.start_at == subscription.end_at
        assert titles() == ["my-db was not created"]
        assert not Attachment.objects.exists()
        assert waiting.post(DEPROVISION, {}).status_code == 410

    def test_is_overtaken_by_its_owner(
        self, api: Api, bad_provider: BadProvider, waiting: Api
    ) -> None:
        """No call to the provider is under way, so it need not be waited for."""
        answer = api.delete("/apps/shop/addons/my-db")
        assert answer.json()["state"] == "deprovisioned"
        assert bad_provider.methods() == ["POST", "DELETE"]
        assert waiting.patch(CONFIG, config_body(FAST_DB_URL="x")).status_code == 410
        assert waiting.post(PROVISION, {}).status_code == 410
        assert only_addon().state == State.DEPROVISIONED
        assert api.releases("shop") == ["Initial release"]
        subscription = Subscription.objects.get()
        assert subscription.start_at == subscription.end_at

    def test_does_not_come_back_while_it_is_being_removed(
        self, api: Api, bad_provider: BadProvider, waiting: Api
    ) -> None:
        bad_provider.will("DELETE", 500)
        api.delete("/apps/shop/addons/my-db")
        assert waiting.post(PROVISION, {}).status_code == 410
        assert waiting.patch(CONFIG, config_body(FAST_DB_URL="x")).status_code == 410
        assert only_addon().state == State.DEPROVISIONING
        assert waiting.post(DEPROVISION, {}).json()["state"] == "deprovisioned"
        reconcile_after(timedelta(hours=1))
        assert bad_provider.methods() == ["POST", "DELETE"]

    @pytest.mark.django_db(transaction=True)
    def test_two_at_once_make_one_release(self, api: Api, waiting: Api) -> None:
        barrier, statuses = threading.Barrier(2), list[int]()

        def call_back() -> None:
            barrier.wait()
            statuses.append(waiting.post(PROVISION, {}).status_code)
            connection.close()

        threads = [threading.Thread(target=call_back) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200, 200]
        assert len(api.releases("shop")) == 2


class TestConfig:
    def test_is_written_to_every_attachment_by_one_release_each(
        self, api: Api, account: Account, has_keys: bool, provisioned: Api
    ) -> None:
        new_app(account, "blog")
        api.attach("my-db", "shop", "SECOND")
        if has_keys:
            return  # its provider answers an attach in another way
        api.attach("my-db", "blog", "SHARED")
        answer = provisioned.patch(CONFIG, config_body(FAST_DB_URL="db://rotated"))
        assert answer.json() == [{"name": "FAST_DB_URL", "value": "db://rotated"}]
        assert api.config("shop") == {"DB_URL": "db://rotated", "SECOND_URL": "db://rotated"}
        assert api.config("blog") == {"SHARED_URL": "db://rotated"}
        assert api.releases("shop")[-1] == "Update DB, SECOND by fast-db"
        assert api.releases("blog")[-1] == "Update SHARED by fast-db"
        api.attach("my-db", "blog", "LATER")
        assert api.config("blog")["LATER_URL"] == "db://rotated"

    def test_of_one_attachment_is_written_to_it_alone(
        self, api: Api, bad_provider: BadProvider, provisioned: Api
    ) -> None:
        bad_provider.will("PUT", 200, {"config": {"FAST_DB_URL": "db://second"}})
        second = api.attach("my-db", "shop", "SECOND").json()
        path = f"/addon-attachments/{second['id']}/config"
        answer = provisioned.patch(path, config_body(FAST_DB_URL="db://rotated"))
        assert answer.json() == [{"name": "FAST_DB_URL", "value": "db://rotated"}]
        assert api.config("shop") == {"DB_URL": "db://first", "SECOND_URL": "db://rotated"}
        assert api.releases("shop")[-1] == "Update SECOND by fast-db"
        api.delete(f"/addon-attachments/{second['id']}")
        gone = provisioned.patch(path, config_body(FAST_DB_URL="x"))
        assert gone.status_code == 404

    def test_of_one_attachment_needs_keys_per_attachment(
        self, bad_provider: BadProvider, provisioned: Api
    ) -> None:
        register_bad(bad_provider, attachment_credentials=False)
        path = f"/addon-attachments/{Attachment.objects.get().id}/config"
        answer = provisioned.patch(path, config_body(FAST_DB_URL="x"))
        assert answer.status_code == 422
        assert "attachment_credentials" in answer.json()["message"]

    def test_is_unset_by_null(self, api: Api, has_keys: bool, provisioned: Api) -> None:
        assert provisioned.patch(CONFIG, config_body(FAST_DB_URL=None)).json() == []
        assert api.config("shop") == {}
        assert api.releases("shop")[-1] == "Update DB by fast-db"
        assert provisioned.patch(CONFIG, config_body(FAST_DB_URL="again")).status_code == 200
        assert api.config("shop") == {"DB_URL": "again"}

    def test_that_is_the_same_makes_no_release(self, api: Api, provisioned: Api) -> None:
        provisioned.patch(CONFIG, config_body(FAST_DB_URL="db://first"))
        assert len(api.releases("shop")) == 2

    def test_does_not_overwrite_what_is_the_users(self, api: Api, provisioned: Api) -> None:
        provisioned.patch(CONFIG, config_body(FAST_DB_URL=None))
        api.patch("/apps/shop/config-vars", {"DB_URL": "mine"})
        answer = provisioned.patch(CONFIG, config_body(FAST_DB_URL="theirs"))
        assert (answer.status_code, answer.json()["id"]) == (422, "invalid_params")
        assert api.config("shop") == {"DB_URL": "mine"}

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ({}, "config"),
            ({"config": {"FAST_DB_URL": "x"}}, "config"),
            ({"config": ["x"]}, "config"),
            ({"config": [{"value": "x"}]}, "name"),
            ({"config": [{"name": "FAST_DB_URL", "value": 5}]}, "FAST_DB_URL"),
            ({"config": [{"name": "FAST_DB_URL", "val": "x"}]}, "FAST_DB_URL"),
            ({"config": [{"name": "FAST_DB_URL", "value": "x" * 32_001}]}, "32000"),
            ({"config": [{"name": "PATH", "value": "x"}]}, "FAST_DB_URL"),
            ({"config": [{"name": "FAST_DB_URL", "value": "x"}] * 101}, "100"),
        ],
    )
    def test_that_is_wrong_is_named(
        self, api: Api, provisioned: Api, body: Any, named: str
    ) -> None:
        answer = provisioned.patch(CONFIG, body)
        assert answer.status_code == 422
        assert named in answer.json()["message"]
        assert api.config("shop") == {"DB_URL": "db://first"}

    def test_is_not_for_customers(self, api: Api, stranger: Api, provisioned: Api) -> None:
        attachment = f"/addon-attachments/{Attachment.objects.get().id}/config"
        body = config_body(FAST_DB_URL="x")
        for method, path in (
            ("PATCH", CONFIG), ("PATCH", attachment), ("POST", PROVISION), ("POST", DEPROVISION),
        ):  # fmt: skip
            assert api.call(method, path, body).status_code == 403, path
            assert stranger.call(method, path, body).status_code == 404, path


class TestPlanChanges:
    @pytest.fixture(autouse=True)
    def _large(self, bad_provider: BadProvider) -> None:
        Plan.objects.create(
            service_name="fast-db", slug="large", human_name="Large",
            requests_per_minute=1, tokens_per_minute=1,
        )  # fmt: skip
        bad_provider.will("PUT", 202, {"message": "Moving your data"})

    def change(self, api: Api) -> Any:
        return api.patch("/apps/shop/addons/my-db", {"plan": "fast-db:large"})

    def test_hold_when_the_provider_calls_back(
        self, api: Api, has_keys: bool, provisioned: Api
    ) -> None:
        answer = self.change(api)
        assert (answer.status_code, answer.json()["plan"]["name"]) == (200, "fast-db:tiny")
        assert answer.json()["provision_message"] == "Moving your data"
        provisioned.patch(CONFIG, config_body(FAST_DB_URL="db://large"))
        assert provisioned.post(PROVISION, {}).json()["plan"]["name"] == "fast-db:large"
        assert api.config("shop") == {"DB_URL": "db://large"}
        assert api.releases("shop")[2:] == [
            "Update DB by fast-db", "Change plan of my-db to fast-db:large",
        ]  # fmt: skip
        addon = only_addon()
        assert (addon.pending_plan, addon.next_attempt_at, addon.deadline_at) == (None,) * 3
        plans = Subscription.objects.order_by("start_at").values_list("plan__slug", flat=True)
        assert list(plans) == ["tiny", "large"]
        assert provisioned.post(PROVISION, {}).status_code == 200
        assert len(api.releases("shop")) == 4

    def test_keep_others_out_until_then(self, api: Api, provisioned: Api) -> None:
        self.change(api)
        for answer in (self.change(api), api.attach("my-db", "shop", "SECOND")):
            assert answer.status_code == 422
            assert "plan" in answer.json()["message"]

    def test_that_take_too_long_are_called_off(
        self, api: Api, bad_provider: BadProvider, provisioned: Api
    ) -> None:
        self.change(api)
        reconcile_after(IN_TIME)
        assert bad_provider.methods() == ["POST", "PUT"]
        bad_provider.will("PUT", 200, {})
        reconcile_after(TOO_LATE)
        assert [call.body for call in bad_provider.calls[1:]] == [
            {"plan": "large"}, {"plan": "tiny"},
        ]  # fmt: skip
        addon = only_addon()
        assert (addon.plan.slug, addon.pending_plan, addon.next_attempt_at) == ("tiny", None, None)
        assert titles() == ["The plan of my-db was not changed"]
        assert provisioned.post(PROVISION, {}).json()["plan"]["name"] == "fast-db:tiny"

    def test_may_be_accepted_when_they_are_called_off(
        self, api: Api, bad_provider: BadProvider, provisioned: Api
    ) -> None:
        self.change(api)
        reconcile_after(TOO_LATE)
        assert only_addon().pending_plan == only_addon().plan
        provisioned.post(PROVISION, {})
        addon = only_addon()
        assert (addon.plan.slug, addon.pending_plan, addon.next_attempt_at) == ("tiny", None, None)
        assert len(api.releases("shop")) == 2

    @pytest.mark.django_db(transaction=True)
    def test_are_not_confirmed_before_they_are_accepted(
        self, api: Api, bad_provider: BadProvider, provisioned: Api
    ) -> None:
        """A callback of before that comes again would be taken for this one's."""
        seen: list[int] = []

        def call_back() -> None:
            seen.append(provisioned.post(PROVISION, {}).status_code)
            connection.close()

        bad_provider.will("PUT", 202, {}, before=call_back)
        self.change(api)
        assert seen == [409]
        assert only_addon().plan.slug == "tiny"
        provisioned.post(PROVISION, {})
        assert only_addon().plan.slug == "large"

    @pytest.mark.django_db(transaction=True)
    def test_that_follow_one_that_took_too_long_are_not_confirmed_before_they_are_accepted(
        self, api: Api, bad_provider: BadProvider, provisioned: Api
    ) -> None:
        seen: list[int] = []

        def call_back() -> None:
            seen.append(provisioned.post(PROVISION, {}).status_code)
            connection.close()

        self.change(api)
        passed = timezone.now()
        Addon.objects.update(deadline_at=passed, next_attempt_at=passed)
        bad_provider.will("PUT", 422, {"message": "No room"}, before=call_back)
        assert self.change(api).status_code == 422
        assert seen == [409]
        assert only_addon().plan.slug == "tiny"
        bad_provider.will("PUT", 200, {})
        reconcile_after(timedelta(seconds=1))  # the first of them may have been made all the same
        assert bad_provider.calls[-1].body == {"plan": "tiny"}

    @pytest.mark.django_db(transaction=True)
    def test_do_not_undo_what_the_provider_sets_meanwhile(
        self, api: Api, bad_provider: BadProvider, provisioned: Api
    ) -> None:
        def rotate() -> None:
            provisioned.patch(CONFIG, config_body(FAST_DB_URL="db://rotated"))
            connection.close()

        register_bad(bad_provider, attachment_credentials=False)
        provisioned.patch(CONFIG, config_body(FAST_DB_URL="db://first"))
        bad_provider.will("PUT", 200, {}, before=rotate)
        assert self.change(api).json()["plan"]["name"] == "fast-db:large"
        api.attach("my-db", "shop", "LATER")
        assert api.config("shop") == {"DB_URL": "db://rotated", "LATER_URL": "db://rotated"}

    def test_are_overtaken_by_the_owner(
        self, api: Api, bad_provider: BadProvider, provisioned: Api
    ) -> None:
        self.change(api)
        assert api.delete("/apps/shop/addons/my-db").json()["state"] == "deprovisioned"
        assert only_addon().pending_plan is None
        assert provisioned.post(PROVISION, {}).status_code == 410


class TestDeprovisioning:
    @pytest.fixture(autouse=True)
    def _async(self, bad_provider: BadProvider) -> None:
        bad_provider.will("DELETE", 202, {})

    def test_ends_when_the_provider_calls_back(self, api: Api, provisioned: Api) -> None:
        answer = api.delete("/apps/shop/addons/my-db")
        assert (answer.status_code, answer.json()["state"]) == (200, "deprovisioning")
        assert api.config("shop") == {}
        assert api.releases("shop")[-1] == "Detach DB (my-db)"
        assert Subscription.objects.get().end_at is not None
        assert api.get("/apps/shop/addons/my-db").json()["state"] == "deprovisioning"
        assert provisioned.post(DEPROVISION, {}).json()["state"] == "deprovisioned"
        assert api.get("/apps/shop/addons/my-db").status_code == 404
        assert provisioned.post(DEPROVISION, {}).status_code == 410
        assert titles() == []

    def test_is_over_after_twelve_hours(
        self, api: Api, bad_provider: BadProvider, provisioned: Api
    ) -> None:
        api.delete("/apps/shop/addons/my-db")
        reconcile_after(IN_TIME)
        assert bad_provider.methods() == ["POST", "DELETE"]
        reconcile_after(TOO_LATE)
        assert bad_provider.methods() == ["POST", "DELETE", "DELETE"]
        assert only_addon().state == State.DEPROVISIONED

    def test_of_what_was_never_made_has_hours_of_its_own(
        self, api: Api, bad_provider: BadProvider, waiting: Api
    ) -> None:
        reconcile_after(TOO_LATE)
        addon = only_addon()
        assert addon.state == State.DEPROVISIONING
        assert addon.deadline_at is not None
        assert addon.deadline_at > timezone.now() + timedelta(hours=23)
        waiting.post(DEPROVISION, {})
        assert only_addon().state == State.DEPROVISIONED

    def test_by_the_provider_alone_is_told_to_the_owner(
        self, api: Api, provisioned: Api, bad_provider: BadProvider
    ) -> None:
        assert provisioned.post(DEPROVISION, {}).json()["state"] == "deprovisioned"
        assert api.config("shop") == {}
        assert api.releases("shop")[-1] == "Detach DB (my-db)"
        assert titles() == ["my-db was removed"]
        assert Subscription.objects.get().end_at is not None
        assert not Addon.objects.exclude(state=State.DEPROVISIONED).exists()
        assert bad_provider.methods() == ["POST"]


class TestTheActor:
    """Of a release and of what webhooks are told; Heroku shows a provider by such an address."""

    def test_is_the_provider_where_it_called_back(
        self, api: Api, bad_provider: BadProvider, waiting: Api
    ) -> None:
        kinds = ["api:addon", "api:addon-attachment", "api:release"]
        body = {"include": kinds, "level": "sync", "url": "https://hooks.example.com"}
        api.post("/apps/shop/webhooks", body)
        waiting.post(PROVISION, {})
        waiting.patch(CONFIG, config_body(FAST_DB_URL="db://rotated"))
        waiting.post(DEPROVISION, {})
        first, *others = api.get("/apps/shop/releases").json()
        assert first["user"]["email"] == "dev@example.com"
        service = AddonService.objects.get(name="fast-db")
        provider = {"email": "fast-db@addons.heroku.com", "id": str(service.id)}
        assert [(release["description"], release["user"]) for release in others] == [
            ("Attach DB (my-db)", provider),
            ("Update DB by fast-db", provider),
            ("Detach DB (my-db)", provider),
        ]
        events = api.get("/apps/shop/webhook-events").json()
        assert len(events) == 7
        assert all(event["payload"]["actor"] == provider for event in events)

    def test_is_who_asked_otherwise(self, api: Api, provisioned: Api) -> None:
        api.delete("/apps/shop/addons/my-db")
        users = {release["user"]["email"] for release in api.get("/apps/shop/releases").json()}
        assert users == {"dev@example.com"}
