"""Changing a plan: platform, provider and billing agree, whatever cuts it short."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from addon.platform import plan_changes
from addon.platform.models import Addon, App, Attachment, AttachmentState
from addon.platform.plan_changes import change_plan
from addon.platform.transitions import ConcurrentChange
from addon.provider.models import Resource
from billing.models import Plan, Subscription
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api, only_addon, register_bad
from tests.addon.rounds_in_turn import reconcile_platform as reconcile

COHERE = "heroku-inference:cohere-embed-v4"
# The bad provider's plans
TINY, LARGE = "tiny", "large"


def change(api: Api, plan: object, app: str = "shop") -> Any:
    name = only_addon().name
    return api.patch(f"/apps/{app}/addons/{name}", {"plan": plan})


def subscribed() -> list[str]:
    """The plans of the subscriptions, in their order, each ending where the next starts."""
    rows = list(Subscription.objects.select_related("plan").order_by("start_at"))
    assert [row.end_at for row in rows[:-1]] == [row.start_at for row in rows[1:]]
    assert rows[-1].end_at is None
    return [row.plan.slug for row in rows]


@pytest.mark.usefixtures("shop", "blog", "provider")
class TestWithOurOwnProvider:
    def test_both_sides_and_the_subscription_have_the_new_plan(self, api: Api) -> None:
        api.add("shop", "EMBEDDING")
        answer = change(api, {"name": COHERE})
        assert answer.status_code == 200
        assert answer.json()["plan"]["name"] == COHERE
        assert "cohere-embed-v4" in answer.json()["provision_message"]
        assert only_addon().plan.name == COHERE
        assert Resource.objects.get().plan_slug == "cohere-embed-v4"
        assert subscribed() == ["standard", "cohere-embed-v4"]

    def test_the_config_vars_of_every_attachment_follow_and_keys_stay(self, api: Api) -> None:
        addon = api.add("shop", "EMBEDDING").json()
        api.attach(addon["name"], "blog", "SEARCH")
        before = {app: api.config(app) for app in ("shop", "blog")}
        change(api, COHERE)
        after = {app: api.config(app) for app in ("shop", "blog")}
        assert after["shop"] == {**before["shop"], "EMBEDDING_MODEL_ID": "cohere-embed-v4"}
        assert after["blog"] == {**before["blog"], "SEARCH_MODEL_ID": "cohere-embed-v4"}
        assert before["shop"]["EMBEDDING_KEY"] != before["blog"]["SEARCH_KEY"]
        for app in ("shop", "blog"):
            assert api.releases(app)[-1] == f"Change plan of {addon['name']} to {COHERE}"
        newest = api.get("/apps/shop/releases").json()[-1]
        assert newest["addon_plan_names"] == [COHERE]

    def test_a_plan_with_the_same_config_is_a_release_of_the_owner_only(self, api: Api) -> None:
        addon = api.add("shop").json()
        api.attach(addon["name"], "blog")
        releases = api.releases("blog")
        change(api, "heroku-inference:dedicated")
        assert api.releases("shop")[-1].startswith("Change plan")
        assert api.releases("blog") == releases

    @pytest.mark.parametrize("as_", ["standard", "heroku-inference:standard", "id"])
    def test_the_same_plan_changes_nothing(self, api: Api, as_: str) -> None:
        api.add("shop")
        releases = api.releases("shop")
        plan = str(only_addon().plan_id) if as_ == "id" else as_
        assert change(api, plan).status_code == 200
        assert api.releases("shop") == releases
        assert subscribed() == ["standard"]

    @pytest.mark.parametrize("plan", ["heroku-inference:nosuch", "nosuch", "fast-db:tiny", "a:b:c"])
    def test_an_unknown_plan_is_refused_in_the_words_that_the_cli_looks_for(
        self, api: Api, plan: str
    ) -> None:
        Plan.objects.create(
            service_name="fast-db", slug="tiny", human_name="Tiny",
            requests_per_minute=1, tokens_per_minute=1,
        )  # fmt: skip
        api.add("shop")
        answer = change(api, {"name": plan})
        assert answer.status_code == 422
        assert answer.json()["message"] == (
            f'Couldn\'t find either the add-on service or the add-on plan of "{plan}".'
        )

    def test_a_plan_that_is_not_on_sale_any_more_is_refused(self, api: Api) -> None:
        api.add("shop")
        Plan.objects.filter(slug="dedicated").update(is_visible=False)
        assert change(api, "heroku-inference:dedicated").status_code == 422

    @pytest.mark.parametrize("body", [{}, {"plan": None}, {"plan": 1}])
    def test_a_body_without_a_plan_is_refused_by_name(self, api: Api, body: object) -> None:
        api.add("shop")
        answer = api.patch(f"/apps/shop/addons/{only_addon().name}", body)
        assert answer.status_code == 422
        assert "plan" in answer.json()["message"]

    def test_a_strangers_addon_is_not_found(self, api: Api, stranger: Api) -> None:
        api.add("shop")
        assert change(stranger, COHERE).status_code == 404
        assert only_addon().plan.slug == "standard"

    def test_a_change_that_was_overtaken_by_a_later_one_is_refused(self, api: Api) -> None:
        api.add("shop")
        seen = only_addon()
        started_at = timezone.now()
        change(api, COHERE)
        dedicated = Plan.objects.get(slug="dedicated")
        with pytest.raises(ConcurrentChange):
            change_plan(seen, dedicated, seen.app.owner, started_at)
        assert subscribed() == ["standard", "cohere-embed-v4"]

    @pytest.mark.parametrize("name", ["_finish", "_settle", "create_release"])
    def test_a_process_that_dies_leaves_both_sides_with_one_plan(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        class Killed(BaseException):
            pass

        def die(*args: object, **kwargs: object) -> None:
            raise Killed

        api.add("shop")
        addon = only_addon()
        cohere = Plan.objects.get(slug="cohere-embed-v4")
        with monkeypatch.context() as dying:
            dying.setattr(plan_changes, name, die)
            with pytest.raises(Killed):
                change_plan(addon, cohere, addon.app.owner, timezone.now())
        assert Resource.objects.get().plan_slug == "cohere-embed-v4"
        reconcile(lambda: timezone.now() + timedelta(seconds=31))
        assert Resource.objects.get().plan_slug == only_addon().plan.slug == "standard"
        assert only_addon().next_attempt_at is None
        assert subscribed() == ["standard"]


def large_plan() -> Plan:
    return Plan.objects.create(
        service_name="fast-db", slug=LARGE, human_name="Large",
        requests_per_minute=1, tokens_per_minute=1,
    )  # fmt: skip


@pytest.fixture
def addon(api: Api, shop: App, bad_provider: BadProvider) -> Addon:
    large_plan()
    api.add("shop", plan="fast-db")
    bad_provider.calls.clear()
    return only_addon()


@pytest.mark.usefixtures("addon")
class TestWithAProviderThatMisbehaves:
    def test_the_provider_is_asked_as_heroku_asks(
        self, api: Api, addon: Addon, bad_provider: BadProvider
    ) -> None:
        assert change(api, LARGE).status_code == 200
        (call,) = bad_provider.calls
        assert (call.method, call.path, call.body) == (
            "PUT",
            f"/heroku/resources/{addon.id}",
            {"plan": LARGE},
        )
        assert api.config("shop")["FAST_DB_URL"] == "db://second"

    def test_an_answer_without_config_leaves_the_vars(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("PUT", 200, {"message": "bigger now"})
        answer = change(api, LARGE)
        assert answer.json()["provision_message"] == "bigger now"
        assert api.config("shop")["FAST_DB_URL"] == "db://first"

    def test_a_shared_config_reaches_later_attachments_too(
        self, api: Api, blog: App, bad_provider: BadProvider
    ) -> None:
        register_bad(bad_provider, attachment_credentials=False)
        change(api, LARGE)
        api.attach(only_addon().name, "blog", "DB")
        assert api.config("blog")["DB_URL"] == "db://second"

    @pytest.mark.parametrize("status", [422, 503])
    def test_a_refusal_is_shown_and_changes_nothing(
        self, api: Api, bad_provider: BadProvider, status: int
    ) -> None:
        bad_provider.will("PUT", status, {"message": "too much data for that plan"})
        releases = api.releases("shop")
        answer = change(api, LARGE)
        assert answer.status_code == status
        assert answer.json()["message"] == "too much data for that plan"
        assert (only_addon().plan.slug, only_addon().next_attempt_at) == (TINY, None)
        assert api.releases("shop") == releases
        assert subscribed() == [TINY]

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (500, b""),
            (404, {"message": "no such resource"}),
            (410, b""),
            (422, b"no message"),
            (200, {"config": "nonsense"}),
        ],
    )
    def test_an_uncertain_answer_leaves_the_plan_and_says_so(
        self, api: Api, bad_provider: BadProvider, status: int, body: object
    ) -> None:
        bad_provider.will("PUT", status, body)
        answer = change(api, LARGE)
        assert answer.status_code == 503
        assert "The plan is still fast-db:tiny; please try again" in answer.json()["message"]
        assert only_addon().plan.slug == TINY
        assert subscribed() == [TINY]

    def test_it_can_be_tried_again_at_once(self, api: Api, bad_provider: BadProvider) -> None:
        bad_provider.will("PUT", 500)
        change(api, LARGE)
        bad_provider.will("PUT", 200, {})
        assert change(api, LARGE).status_code == 200
        assert (only_addon().plan.slug, only_addon().next_attempt_at) == (LARGE, None)
        assert subscribed() == [TINY, LARGE]

    def test_a_provider_that_may_have_changed_is_told_the_plan_that_holds(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("PUT", 500)
        change(api, LARGE)
        reconcile(timezone.now)
        assert only_addon().last_error == "plan change: the provider answered 500"
        bad_provider.will("PUT", 200, {})
        reconcile(lambda: timezone.now() + timedelta(seconds=31))
        assert [call.body for call in bad_provider.calls] == [
            {"plan": LARGE}, {"plan": TINY}, {"plan": TINY},
        ]  # fmt: skip
        settled = only_addon()
        assert (settled.plan.slug, settled.next_attempt_at, settled.last_error) == (TINY, None, "")
        reconcile(lambda: timezone.now() + timedelta(hours=1))
        assert len(bad_provider.calls) == 3

    def test_a_refusal_after_an_uncertain_answer_is_cleared_up_too(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("PUT", 500)
        change(api, LARGE)
        bad_provider.will("PUT", 422, {"message": "no"})
        assert change(api, LARGE).status_code == 422
        assert only_addon().next_attempt_at is not None

    def test_while_the_provider_is_asked_nobody_else_changes_or_attaches(
        self, api: Api, blog: App, bad_provider: BadProvider
    ) -> None:
        asked, go_on = threading.Event(), threading.Event()
        answers: list[int] = []

        def wait() -> None:
            asked.set()
            go_on.wait(10)

        bad_provider.will("PUT", 200, {}, before=wait)

        def change_in_a_thread() -> None:
            answers.append(change(api, LARGE).status_code)
            connection.close()

        thread = threading.Thread(target=change_in_a_thread)
        thread.start()
        assert asked.wait(10)
        second = change(api, LARGE)
        attached = api.attach(only_addon().name, "blog")
        go_on.set()
        thread.join()
        assert answers == [200]
        assert (second.status_code, second.json()["id"]) == (409, "conflict")
        assert attached.status_code == 422
        assert "is being changed" in attached.json()["message"]

    def test_an_addon_that_is_destroyed_meanwhile_stays_destroyed(
        self, api: Api, addon: Addon, bad_provider: BadProvider
    ) -> None:
        def destroy() -> None:
            api.delete(f"/apps/shop/addons/{addon.name}")
            connection.close()

        bad_provider.will("PUT", 200, {}, before=destroy)
        assert change(api, LARGE).status_code == 409
        assert (only_addon().state, only_addon().plan.slug) == ("deprovisioned", TINY)

    def test_an_addon_that_is_not_provisioned_yet_keeps_its_plan(
        self, api: Api, addon: Addon
    ) -> None:
        Addon.objects.update(state="provisioning")
        answer = change(api, LARGE)
        assert answer.status_code == 422
        assert "can be changed once provisioned" in answer.json()["message"]

    def test_one_that_is_just_being_attached_waits(self, api: Api, addon: Addon) -> None:
        Attachment.objects.update(state=AttachmentState.ATTACHING)
        assert change(api, LARGE).status_code == 409
