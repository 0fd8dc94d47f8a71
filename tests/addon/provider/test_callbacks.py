"""What the provider does in the background, and how a platform is called back: unit by unit."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from addon import leases
from addon.provider import addon_info, callbacks, credentials, deliveries, grants, provisioning
from addon.provider.deliveries import drive
from addon.provider.grants import OAuthGrant
from addon.provider.models import Attachment, Callback, Credential, Grant, Resource
from addon.provider.platform_client import PlatformUnavailable, UnknownPlatform
from addon.provider.provisioning import (
    Accepted,
    AttachmentRequest,
    Provisioned,
    ProvisionRequest,
    ResourceGone,
    ResourceNotReady,
)
from billing.models import Plan, Subscription
from tests.addon.provider.platforms import Platform
from tests.addon.rounds_in_turn import reconcile_provider as reconcile

ALL = ["provision", "plan_change", "deprovision"]
TOKEN = "POST /oauth/token"
NEW_GRANT = "GET /vendor/resources/oauth-grant"
CONFIG = "PATCH /addons/config"
ATTACHMENT_CONFIG = "PATCH /addon-attachments/config"
PROVISION = "POST /addons/actions/provision"
DEPROVISION = "POST /addons/actions/deprovision"


def later(**delta: float) -> Callable[[], datetime]:
    moment = timezone.now() + timedelta(**delta)
    return lambda: moment


def request(
    platform: Platform, *, has_attachments: bool = True, code: str | None = "code-1", **more: Any
) -> ProvisionRequest:
    resource_id = uuid4()
    attachment = AttachmentRequest(
        id=uuid4() if has_attachments else resource_id, name="EMBEDDING", app_name="shop"
    )
    said: dict[str, Any] = {
        "uuid": resource_id, "name": "inference-1", "plan_slug": "standard", "region": "",
        "options": {}, "callback_url": f"{platform.url}/addons/{resource_id}",
        "oauth_grant": None if code is None else OAuthGrant(code=code), "attachment": attachment,
    }  # fmt: skip
    return ProvisionRequest(**{**said, **more})


def provision(platform: Platform, **more: Any) -> Resource:
    wanted = request(platform, **more)
    provisioning.provision(wanted, timezone.now())
    return get(wanted.uuid)


def get(resource_id: UUID) -> Resource:
    return Resource.objects.get(id=resource_id)


def drive_now(resource: Resource) -> Resource:
    drive(resource.id, timezone.now)
    return get(resource.id)


@pytest.fixture
def in_background(platform: Platform) -> None:
    Plan.objects.update(async_operations=ALL)


class TestASynchronousPlan:
    def test_is_answered_at_once_and_its_grant_exchanged(self, platform: Platform) -> None:
        wanted = request(platform)
        answer = provisioning.provision(wanted, timezone.now())
        assert isinstance(answer, Provisioned)
        assert platform.calls == []
        resource = drive_now(get(wanted.uuid))
        (call,) = platform.calls
        assert call.body == {
            "grant_type": "authorization_code", "code": "code-1",
            "client_secret": settings.OAUTH_CLIENT_SECRET,
        }  # fmt: skip
        grant = Grant.objects.get()
        assert (grant.access_token, grant.refresh_token) == ("access-1", "refresh-1")
        assert grant.code == ""
        assert (resource.next_attempt_at, resource.leased_until, resource.pending) == (
            None, None, "",
        )  # fmt: skip

    def test_stores_no_token_in_the_clear(self, platform: Platform) -> None:
        drive_now(provision(platform))
        with connection.cursor() as cursor:
            cursor.execute("SELECT access_token, refresh_token FROM provider_grant")
            assert not {"access-1", "refresh-1"} & set(cursor.fetchone())

    def test_needs_no_grant(self, platform: Platform) -> None:
        resource = provision(platform, code=None)
        assert drive_now(resource).next_attempt_at is None
        reconcile(timezone.now)
        assert platform.calls == []


@pytest.mark.usefixtures("in_background")
class TestProvisioning:
    def test_is_accepted_then_done_then_told(self, platform: Platform) -> None:
        wanted = request(platform)
        answer = provisioning.provision(wanted, timezone.now())
        assert isinstance(answer, Accepted)
        assert not Credential.objects.exists()
        resource = drive_now(get(wanted.uuid))
        assert platform.made() == [TOKEN, ATTACHMENT_CONFIG, PROVISION]
        told = {row["name"]: row["value"] for row in platform.calls[1].body["config"]}
        identity = credentials.find_identity(told["INFERENCE_KEY"])
        assert identity is not None
        assert identity.resource_id == resource.id
        assert set(told) == {"INFERENCE_URL", "INFERENCE_KEY", "INFERENCE_MODEL_ID"}
        assert platform.calls[2].authorization == "Bearer access-1"
        assert (resource.pending, resource.next_attempt_at) == ("", None)

    def test_writes_the_config_of_the_addon_where_there_are_no_attachments(
        self, platform: Platform
    ) -> None:
        drive_now(provision(platform, has_attachments=False))
        assert platform.made() == [TOKEN, CONFIG, PROVISION]
        names = {row["name"] for row in platform.calls[1].body["config"]}
        assert "INFERENCE_KEY" in names

    def test_is_accepted_again_when_it_is_repeated(self, platform: Platform) -> None:
        wanted = request(platform)
        first = provisioning.provision(wanted, timezone.now())
        assert provisioning.provision(wanted, timezone.now()) == first
        drive_now(get(wanted.uuid))
        assert provisioning.provision(wanted, timezone.now()) == first
        assert Credential.objects.count() == 1

    @pytest.mark.parametrize(
        "said", [{"callback_url": ""}, {"callback_url": "https://evil.example/addons/x"},
                 {"code": None}],
    )  # fmt: skip
    def test_is_done_at_once_for_a_platform_that_cannot_be_called_back(
        self, platform: Platform, said: dict[str, Any]
    ) -> None:
        answer = provisioning.provision(request(platform, **said), timezone.now())
        assert isinstance(answer, Provisioned)
        reconcile(later(minutes=1))
        assert platform.calls == []

    def test_waits_for_what_the_platform_cannot_take_now(self, platform: Platform) -> None:
        platform.will(PROVISION, 500)
        resource = drive_now(provision(platform))
        assert (resource.pending, resource.attempts) == ("provision", 1)
        assert resource.last_error == "the platform answered 500"
        assert resource.leased_until is None
        reconcile(timezone.now)
        assert platform.made().count(PROVISION) == 1
        platform.answers.clear()
        reconcile(later(seconds=11))
        assert platform.made() == [TOKEN, ATTACHMENT_CONFIG, PROVISION, PROVISION]
        assert get(resource.id).pending == ""

    def test_that_the_platform_never_takes_is_ended_after_twelve_hours(
        self, platform: Platform
    ) -> None:
        platform.will(PROVISION, 500)
        resource = drive_now(provision(platform))
        (credential,) = Credential.objects.all()
        hours = 0.0
        while hours < 11:
            hours += 0.5
            reconcile(later(hours=hours))
        assert get(resource.id).deprovisioned_at is None
        reconcile(later(hours=12, seconds=1))
        ended = get(resource.id)
        assert ended.deprovisioned_at is not None
        assert credentials.find_identity(credential.key) is None
        assert platform.made()[-1] == DEPROVISION
        assert ended.next_attempt_at is None
        (subscription,) = Subscription.objects.filter(resource_id=resource.id)
        assert subscription.end_at == subscription.start_at

    def test_that_the_platform_took_from_a_process_that_died_is_not_ended(
        self, platform: Platform, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def die(resource_id: UUID) -> None:
            raise KeyboardInterrupt

        resource = provision(platform)
        with monkeypatch.context() as patch:
            patch.setattr(provisioning, "confirm", die)
            with pytest.raises(KeyboardInterrupt):
                drive_now(resource)
        resource = get(resource.id)
        assert resource.pending == "provision"
        reconcile(later(hours=13))
        resource = get(resource.id)
        assert (resource.pending, resource.deprovisioned_at) == ("", None)
        assert platform.made().count(PROVISION) == 2

    def test_is_ended_at_once_when_the_platform_has_the_addon_no_more(
        self, platform: Platform
    ) -> None:
        platform.will(ATTACHMENT_CONFIG, 410)
        resource = drive_now(provision(platform))
        assert resource.deprovisioned_at is not None
        assert platform.made() == [TOKEN, ATTACHMENT_CONFIG]
        assert not Grant.objects.exists()
        assert set(Callback.objects.values_list("outcome", flat=True)) == {"gone"}
        reconcile(later(hours=13))
        assert len(platform.calls) == 2

    def test_is_not_ended_by_a_404_which_may_be_a_mistake(self, platform: Platform) -> None:
        platform.will(ATTACHMENT_CONFIG, 404)
        resource = drive_now(provision(platform))
        assert (resource.deprovisioned_at, resource.pending) == (None, "provision")
        assert resource.next_attempt_at == resource.created_at + deliveries.PROVISION_WINDOW
        reconcile(later(hours=12, seconds=1))
        assert get(resource.id).deprovisioned_at is not None

    def test_is_overtaken_by_a_deprovision(self, platform: Platform) -> None:
        resource = provision(platform)
        assert provisioning.deprovision(resource.id, timezone.now()) is None
        drive_now(resource)
        assert platform.calls == []
        assert not Credential.objects.exists()
        with pytest.raises(ResourceGone):
            provisioning.provision(request(platform, uuid=resource.id), timezone.now())

    @pytest.mark.django_db(transaction=True)
    def test_is_overtaken_by_a_deprovision_between_two_callbacks(self, platform: Platform) -> None:
        resource = provision(platform)

        def end() -> None:
            provisioning.deprovision(resource.id, timezone.now())
            connection.close()

        platform.before[ATTACHMENT_CONFIG] = end
        assert drive_now(resource).next_attempt_at is None
        assert platform.made() == [TOKEN, ATTACHMENT_CONFIG]
        assert not Credential.objects.filter(revoked_at=None).exists()

    def test_comes_before_anything_else(self, platform: Platform) -> None:
        resource = provision(platform)
        with pytest.raises(ResourceNotReady):
            provisioning.change_plan(resource.id, "all-minilm-l6-v2", timezone.now())
        wanted = AttachmentRequest(id=uuid4(), name="SEARCH", app_name="blog")
        with pytest.raises(ResourceNotReady):
            provisioning.attach(resource.id, wanted, timezone.now())


@pytest.mark.usefixtures("in_background")
class TestPlanChanges:
    @pytest.fixture
    def resource(self, platform: Platform) -> Resource:
        resource = drive_now(provision(platform))
        platform.calls.clear()
        return resource

    def test_are_accepted_then_done_then_told(self, platform: Platform, resource: Resource) -> None:
        slug = "cohere-embed-multilingual"
        for _ in range(2):
            assert isinstance(provisioning.change_plan(resource.id, slug, timezone.now()), Accepted)
        assert get(resource.id).plan_slug == "standard"
        assert drive_now(resource).plan_slug == slug
        assert platform.made() == [CONFIG, PROVISION]
        told = {row["name"]: row["value"] for row in platform.calls[0].body["config"]}
        assert told == {"INFERENCE_URL": settings.INFERENCE_URL, "INFERENCE_MODEL_ID": slug}
        answer = provisioning.change_plan(resource.id, slug, timezone.now())
        assert not isinstance(answer, Accepted)

    def test_are_called_off_by_the_plan_that_it_has(
        self, platform: Platform, resource: Resource
    ) -> None:
        provisioning.change_plan(resource.id, "cohere-embed-multilingual", timezone.now())
        answer = provisioning.change_plan(resource.id, "standard", timezone.now())
        assert not isinstance(answer, Accepted)
        assert drive_now(resource).plan_slug == "standard"
        assert platform.calls == []

    def test_are_overtaken_by_a_deprovision(self, platform: Platform, resource: Resource) -> None:
        provisioning.change_plan(resource.id, "cohere-embed-multilingual", timezone.now())
        assert isinstance(provisioning.deprovision(resource.id, timezone.now()), Accepted)
        drive_now(resource)
        assert platform.made() == [DEPROVISION]


@pytest.mark.usefixtures("in_background")
class TestDeprovisioning:
    @pytest.fixture
    def resource(self, platform: Platform) -> Resource:
        resource = drive_now(provision(platform))
        platform.calls.clear()
        return resource

    def test_is_accepted_then_done_then_told(self, platform: Platform, resource: Resource) -> None:
        for _ in range(2):
            assert isinstance(provisioning.deprovision(resource.id, timezone.now()), Accepted)
        with pytest.raises(ResourceGone):
            provisioning.change_plan(resource.id, "standard", timezone.now())
        assert drive_now(resource).deprovisioned_at is not None
        assert platform.made() == [DEPROVISION]
        assert not Credential.objects.filter(revoked_at=None).exists()
        with pytest.raises(ResourceGone):
            provisioning.deprovision(resource.id, timezone.now())

    def test_is_told_for_24_hours_at_most(
        self, platform: Platform, resource: Resource, caplog: pytest.LogCaptureFixture
    ) -> None:
        platform.will(DEPROVISION, 503)
        provisioning.deprovision(resource.id, timezone.now())
        for hours in range(24):
            reconcile(later(hours=hours))
        tried = platform.made().count(DEPROVISION)
        assert tried > 20
        reconcile(later(hours=25.5))
        assert get(resource.id).next_attempt_at is None
        assert "could not be told in 24 hours" in caplog.text
        reconcile(later(hours=30))
        assert platform.made().count(DEPROVISION) == tried


class TestQueueing:
    """What rotates a key calls queue_config in its transaction."""

    @pytest.fixture
    def attachment(self, platform: Platform) -> Attachment:
        drive_now(provision(platform))
        platform.calls.clear()
        return Attachment.objects.get()

    def test_sends_the_newest_key(self, platform: Platform, attachment: Attachment) -> None:
        with transaction.atomic():
            credentials.issue(attachment, timezone.now())
            assert callbacks.queue_config(attachment, timezone.now())
            newest = credentials.issue(attachment, timezone.now())
        drive_now(attachment.resource)
        (call,) = platform.calls
        assert call.what == ATTACHMENT_CONFIG
        assert {"name": "INFERENCE_KEY", "value": newest.key} in call.body["config"]

    def test_tells_nothing_that_is_rolled_back(
        self, platform: Platform, attachment: Attachment
    ) -> None:
        with transaction.atomic():
            callbacks.queue_config(attachment, timezone.now())
            transaction.set_rollback(True)
        drive_now(attachment.resource)
        assert platform.calls == []

    def test_tells_nothing_of_an_attachment_that_is_detached(
        self, platform: Platform, attachment: Attachment
    ) -> None:
        with transaction.atomic():
            callbacks.queue_config(attachment, timezone.now())
        provisioning.detach(attachment.resource_id, attachment.id, timezone.now())
        drive_now(attachment.resource)
        assert platform.calls == []
        assert Callback.objects.get().outcome == "overtaken"

    def test_says_so_where_the_platform_cannot_be_told(self, platform: Platform) -> None:
        provision(platform, code=None)
        with transaction.atomic():
            assert not callbacks.queue_config(Attachment.objects.get(), timezone.now())
        assert not Callback.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_is_sent_by_one_process_at_a_time(
        self, platform: Platform, attachment: Attachment
    ) -> None:
        """Else an older config might arrive after a newer one."""
        with transaction.atomic():
            callbacks.queue_config(attachment, timezone.now())

        def meanwhile() -> None:
            platform.before.clear()
            with transaction.atomic():
                callbacks.queue_config(attachment, timezone.now())
            drive(attachment.resource_id, timezone.now)
            assert len(platform.calls) == 1
            connection.close()

        platform.before[ATTACHMENT_CONFIG] = meanwhile
        drive_now(attachment.resource)
        assert platform.made() == [ATTACHMENT_CONFIG, ATTACHMENT_CONFIG]


class TestTokens:
    def test_are_refreshed_a_little_before_they_expire(self, platform: Platform) -> None:
        resource = drive_now(provision(platform))
        token = grants.access_token(resource, later(hours=7, minutes=54))
        assert (token, len(platform.calls)) == ("access-1", 1)
        assert grants.access_token(resource, later(hours=7, minutes=56)) == "access-2"
        assert platform.calls[1].body == {
            "grant_type": "refresh_token", "refresh_token": "refresh-1",
            "client_secret": settings.OAUTH_CLIENT_SECRET,
        }  # fmt: skip

    @pytest.mark.django_db(transaction=True)
    def test_are_refreshed_by_one_process_at_a_time(self, platform: Platform) -> None:
        resource = drive_now(provision(platform))
        clock = later(hours=7, minutes=59, seconds=55)
        seen: list[str] = []

        def meanwhile() -> None:
            seen.append(grants.access_token(resource, clock))  # still good
            with pytest.raises(PlatformUnavailable):
                grants.access_token(resource, later(hours=8, seconds=2))  # not any more
            connection.close()

        platform.before[TOKEN] = meanwhile
        assert grants.access_token(resource, clock) == "access-2"
        assert seen == ["access-1"]
        assert len(platform.calls) == 2

    @pytest.mark.django_db(transaction=True)
    def test_nobody_else_works_on_a_resource_while_its_platform_is_slow(
        self, platform: Platform, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leases, "RENEWED_AFTER_S", 0.05)
        monkeypatch.setattr(leases, "_renewer", None)  # which sleeps for longer
        resource = provision(platform)
        seen: list[bool] = []

        def meanwhile() -> None:
            first, deadline = get(resource.id).leased_until, time.monotonic() + 5
            grant_until = Grant.objects.get().leased_until
            while get(resource.id).leased_until == first and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.append(get(resource.id).leased_until > first)  # type: ignore[operator]
            while Grant.objects.get().leased_until == grant_until and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.append(Grant.objects.get().leased_until > grant_until)  # type: ignore[operator]
            seen.append(deliveries._claim(resource.id, timezone.now()) is None)
            connection.close()

        platform.before[TOKEN] = meanwhile
        assert drive_now(resource).leased_until is None
        assert seen == [True, True, True]

    def test_are_asked_for_anew_when_the_code_was_used_or_has_expired(
        self, platform: Platform
    ) -> None:
        platform.codes.clear()
        resource = drive_now(provision(platform))
        assert platform.made() == [TOKEN, NEW_GRANT, TOKEN]
        assert platform.calls[1].authorization.startswith("Basic ")
        assert grants.access_token(resource, timezone.now) == "access-1"

    def test_are_asked_for_anew_after_five_minutes(self, platform: Platform) -> None:
        resource = provision(platform)
        drive(resource.id, later(minutes=5, seconds=1))
        assert platform.made() == [NEW_GRANT, TOKEN]

    def test_that_are_not_taken_are_refreshed(self, platform: Platform) -> None:
        resource = drive_now(provision(platform))
        with transaction.atomic():
            callbacks.queue_config(Attachment.objects.get(), timezone.now())
        platform.will(ATTACHMENT_CONFIG, 401)
        drive_now(resource)
        platform.answers.clear()
        reconcile(later(seconds=11))
        assert platform.made()[-2:] == [TOKEN, ATTACHMENT_CONFIG]
        assert platform.calls[-1].authorization == "Bearer access-2"

    def test_come_again_after_the_refresh_token_is_refused(self, platform: Platform) -> None:
        resource = drive_now(provision(platform))
        platform.before[TOKEN] = lambda: platform.will(TOKEN, 400)

        def recover() -> None:
            platform.before.clear()
            platform.answers.clear()

        platform.before[NEW_GRANT] = recover
        assert grants.access_token(resource, later(hours=9)) == "access-2"
        assert platform.made() == [TOKEN, TOKEN, NEW_GRANT, TOKEN]

    def test_are_not_asked_for_where_the_addon_is_gone(self, platform: Platform) -> None:
        platform.codes.clear()
        platform.will(NEW_GRANT, 410)
        drive_now(provision(platform))
        reconcile(later(hours=1))
        assert platform.made() == [TOKEN, NEW_GRANT]
        assert not Grant.objects.exists()

    def test_are_asked_for_for_a_day_and_no_longer(self, platform: Platform) -> None:
        platform.will(TOKEN, 500)
        resource = drive_now(provision(platform))
        for hours in range(26):
            reconcile(later(hours=hours))
        assert get(resource.id).next_attempt_at is None
        assert 20 < len(platform.calls) < 60

    def test_never_reach_a_log(self, platform: Platform, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        drive_now(provision(platform))
        text = caplog.text + repr(request(platform))
        for secret in ("access-1", "refresh-1", "code-1", settings.OAUTH_CLIENT_SECRET):
            assert secret not in text


class TestAGrantOfWhatHasEnded:
    def test_is_forgotten_at_once_where_nothing_is_told_any_more(self, platform: Platform) -> None:
        resource = drive_now(provision(platform))
        assert Grant.objects.exists()
        provisioning.deprovision(resource.id, timezone.now())
        assert not Grant.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_is_not_kept_where_it_ended_while_the_code_was_exchanged(
        self, platform: Platform
    ) -> None:
        resource = provision(platform)

        def end() -> None:
            provisioning.deprovision(resource.id, timezone.now())
            connection.close()

        platform.before[TOKEN] = end
        assert drive_now(resource).next_attempt_at is None
        assert platform.made() == [TOKEN]
        assert not Grant.objects.exists()

    def test_is_kept_until_the_platform_knows(self, platform: Platform) -> None:
        Plan.objects.update(async_operations=ALL)
        resource = drive_now(provision(platform))
        platform.will(DEPROVISION, 500)
        provisioning.deprovision(resource.id, timezone.now())
        drive_now(resource)
        assert Grant.objects.exists()
        platform.answers.clear()
        reconcile(later(minutes=1))
        assert platform.made()[-1] == DEPROVISION
        assert not Grant.objects.exists()

    @pytest.mark.parametrize("status", [404, 410])
    def test_is_forgotten_when_the_platform_does_not_want_to_know(
        self, platform: Platform, status: int
    ) -> None:
        Plan.objects.update(async_operations=ALL)
        resource = drive_now(provision(platform))
        platform.will(DEPROVISION, status)
        provisioning.deprovision(resource.id, timezone.now())
        drive_now(resource)
        assert not Grant.objects.exists()

    def test_is_forgotten_when_it_could_not_be_told(self, platform: Platform) -> None:
        Plan.objects.update(async_operations=ALL)
        resource = drive_now(provision(platform))
        platform.will(DEPROVISION, 500)
        provisioning.deprovision(resource.id, timezone.now())
        drive_now(resource)
        reconcile(later(hours=25))
        assert not Grant.objects.exists()


class TestWhoIsCalled:
    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.example/addons/x",
            "https://api.heroku.com.evil.example/addons/x",
            "https://api.heroku.com@evil.example/addons/x",
            "http://api.heroku.com/addons/x",
            "https://api.heroku.com",
            "",
        ],
    )
    def test_nobody_who_is_not_listed(self, platform: Platform, url: str) -> None:
        resource = provision(platform, callback_url=url)
        assert not grants.may_call(resource)
        assert not Grant.objects.exists()

    def test_nobody_who_was_taken_off_the_list(self, platform: Platform, settings: Any) -> None:
        resource = drive_now(provision(platform))
        with transaction.atomic():
            callbacks.queue_config(Attachment.objects.get(), timezone.now())
        settings.PLATFORM_URLS = []
        made = len(platform.calls)
        assert drive_now(resource).next_attempt_at is None
        assert len(platform.calls) == made
        with pytest.raises(UnknownPlatform):
            addon_info.get_addon_info(resource, timezone.now)

    def test_heroku_exchanges_grants_elsewhere(
        self, platform: Platform, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from addon.provider import platform_client

        asked: list[str] = []

        def send(method: str, url: str, **more: Any) -> Any:
            asked.append(f"{method} {url}")
            raise PlatformUnavailable

        monkeypatch.setattr(platform_client, "_send", send)
        resource = provision(platform, callback_url="https://api.heroku.com/addons/x")
        drive_now(resource)
        assert asked == ["POST https://id.heroku.com/oauth/token"]


class TestAddonInfo:
    def test_is_what_the_platform_says(self, platform: Platform) -> None:
        resource = drive_now(provision(platform))
        app_id, attachment_id = uuid4(), uuid4()
        app = {"id": str(app_id), "name": "shop"}
        platform.will(
            "GET /addons", 200,
            {"id": str(resource.id), "name": "inference-2", "state": "provisioned",
             "plan": {"name": "heroku-inference:standard"}, "app": app},
        )  # fmt: skip
        platform.will(
            "GET /addons/addon-attachments", 200,
            [{"id": str(attachment_id), "name": "SEARCH", "app": app, "log_input_url": None}],
        )  # fmt: skip
        info = addon_info.get_addon_info(resource, timezone.now)
        assert (info.name, info.app_name, info.app_id) == ("inference-2", "shop", app_id)
        (attachment,) = addon_info.get_attachments_info(resource, timezone.now)
        assert (attachment.id, attachment.name) == (attachment_id, "SEARCH")

    @pytest.mark.parametrize("body", [{}, [], {"id": "x"}, {"id": 5, "app": {}, "plan": {}}])
    def test_is_not_taken_from_a_malformed_answer(self, platform: Platform, body: object) -> None:
        resource = drive_now(provision(platform))
        platform.will("GET /addons", 200, body)
        platform.will("GET /addons/addon-attachments", 200, {"a": body})
        with pytest.raises(PlatformUnavailable):
            addon_info.get_addon_info(resource, timezone.now)
        with pytest.raises(PlatformUnavailable):
            addon_info.get_attachments_info(resource, timezone.now)


def test_what_became_of_a_callback_is_kept_for_a_month(platform: Platform) -> None:
    resource = provision(platform)
    month = callbacks.KEPT + timedelta(minutes=1)
    for ended_at in (timezone.now() - month, timezone.now() - month / 2, None):
        Callback.objects.create(
            resource=resource, kind="config", created_at=timezone.now() - month, ended_at=ended_at
        )
    callbacks.purge(timezone.now())
    ends = Callback.objects.order_by("id").values_list("ended_at", flat=True)
    assert [ended_at is None for ended_at in ends] == [False, True]
