"""Rotation: which keys work when, what the platform is told, and what a crash leaves."""

import html
import threading
import uuid
from datetime import datetime, timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from addon.provider import callbacks, credentials, key_rotation, provisioning
from addon.provider.credentials import find_identity
from addon.provider.deliveries import drive
from addon.provider.key_rotation import (
    LIVE_KEYS_MAX,
    NotRotated,
    PlatformNotReachable,
    Rotated,
    SharedKey,
    TooManyKeys,
)
from addon.provider.models import Attachment, Callback, Credential, Resource
from addon.provider.provisioning import (
    AttachmentGone,
    AttachmentNotFound,
    AttachmentRequest,
    ResourceGone,
)
from tests.addon.provider.platforms import Platform
from tests.addon.provider.test_callbacks import ATTACHMENT_CONFIG, CONFIG, provision
from tests.addon.provider.test_partner_api import basic, call

HOUR = timedelta(hours=1)
NONE = timedelta()


def ago(**delta: float) -> datetime:
    return timezone.now() - timedelta(**delta)


def attachment_of(resource: Resource) -> Attachment:
    return resource.attachments.order_by("created_at").get(detached_at=None)


def key_of(attachment: Attachment) -> str:
    key = credentials.newest_key(attachment)
    assert key is not None
    return key


def works(*keys: str) -> list[bool]:
    return [find_identity(key) is not None for key in keys]


def rotate(attachment: Attachment, overlap: timedelta, at: datetime) -> str:
    """The new key, with whose news the platform was reached at once."""
    key_rotation.rotate_attachment(attachment.resource_id, attachment.id, overlap, at)
    Callback.objects.filter(ended_at=None).update(ended_at=at, outcome="delivered")
    return key_of(attachment)


@pytest.fixture
def resource(platform: Platform) -> Resource:
    return provision(platform)


@pytest.fixture
def attachment(resource: Resource) -> Attachment:
    return attachment_of(resource)


class TestWhichKeysWork:
    def test_both_during_the_overlap_and_the_new_one_after_it(self, attachment: Attachment) -> None:
        old = key_of(attachment)
        new = rotate(attachment, HOUR, ago(minutes=59))
        assert new != old
        assert works(old, new) == [True, True]
        Credential.objects.exclude(expires_at=None).update(expires_at=ago(seconds=1))
        assert works(old, new) == [False, True]

    def test_without_an_overlap_the_old_one_ends_at_once(self, attachment: Attachment) -> None:
        old = key_of(attachment)
        key_rotation.rotate_attachment(attachment.resource_id, attachment.id, NONE, timezone.now())
        assert Callback.objects.filter(ended_at=None).exists()  # even before the app knows
        assert works(old, key_of(attachment)) == [False, True]

    def test_a_second_rotation_gives_the_first_key_no_more_time(
        self, attachment: Attachment
    ) -> None:
        first = key_of(attachment)
        second = rotate(attachment, HOUR, ago(minutes=50))
        third = rotate(attachment, HOUR, timezone.now())
        assert works(first, second, third) == [True, True, True]
        ends = dict(Credential.objects.values_list("digest", "expires_at"))
        first_end = ends[credentials._digest(first)]
        assert first_end is not None
        assert first_end < timezone.now() + timedelta(minutes=11)

    def test_a_second_rotation_with_less_overlap_shortens_that_of_the_first(
        self, attachment: Attachment
    ) -> None:
        first = key_of(attachment)
        second = rotate(attachment, HOUR, ago(minutes=1))
        third = rotate(attachment, NONE, timezone.now())
        assert works(first, second, third) == [False, False, True]

    def test_a_key_does_not_end_before_the_platform_was_told(self, attachment: Attachment) -> None:
        old = key_of(attachment)
        key_rotation.rotate_attachment(attachment.resource_id, attachment.id, HOUR, ago(hours=5))
        assert works(old) == [True]
        Callback.objects.update(ended_at=ago(minutes=9), outcome="delivered")
        assert works(old) == [True]
        Callback.objects.update(ended_at=ago(minutes=11))
        assert works(old, key_of(attachment)) == [False, True]

    @pytest.mark.parametrize("how", ["is to be told", "was told just now"])
    def test_a_key_that_has_ended_stays_so_whatever_the_platform_is_told_later(
        self, attachment: Attachment, how: str
    ) -> None:
        old = key_of(attachment)
        rotate(attachment, HOUR, ago(hours=5))
        assert works(old) == [False]
        now = timezone.now()
        key_rotation.rotate_attachment(attachment.resource_id, attachment.id, HOUR, now)
        callbacks.queue_shared_config(attachment.resource, now)
        if how == "was told just now":
            Callback.objects.filter(ended_at=None).update(ended_at=now, outcome="delivered")
        assert works(old, key_of(attachment)) == [False, True]

    def test_detaching_ends_all_of_them(self, attachment: Attachment) -> None:
        old = key_of(attachment)
        new = rotate(attachment, HOUR, timezone.now())
        provisioning.detach(attachment.resource_id, attachment.id, timezone.now())
        assert works(old, new) == [False, False]

    def test_a_repeated_provision_gets_the_new_key(self, attachment: Attachment) -> None:
        new = rotate(attachment, HOUR, timezone.now())
        again = AttachmentRequest(
            id=attachment.id, name=attachment.name, app_name=attachment.app_name
        )
        config = provisioning.attach(attachment.resource_id, again, timezone.now())
        assert config["INFERENCE_KEY"] == new

    def test_there_is_a_most_of_them(self, attachment: Attachment) -> None:
        for _ in range(LIVE_KEYS_MAX - 1):
            rotate(attachment, HOUR, timezone.now())
        before = Credential.objects.count(), Callback.objects.count()
        with pytest.raises(TooManyKeys, match="wait for one to end"):
            rotate(attachment, HOUR, timezone.now())
        assert (Credential.objects.count(), Callback.objects.count()) == before
        rotate(attachment, NONE, timezone.now())
        assert Credential.objects.live(timezone.now()).count() == 1


class TestWhatIsRefused:
    def test_a_detached_attachment_is_not_rotated(self, attachment: Attachment) -> None:
        provisioning.detach(attachment.resource_id, attachment.id, timezone.now())
        with pytest.raises(AttachmentGone):
            rotate(attachment, HOUR, timezone.now())
        assert not Credential.objects.live(timezone.now()).exists()

    def test_a_deprovisioned_resource_is_not_rotated(self, attachment: Attachment) -> None:
        provisioning.deprovision(attachment.resource_id, timezone.now())
        with pytest.raises(ResourceGone):
            rotate(attachment, HOUR, timezone.now())
        with pytest.raises(ResourceGone):
            key_rotation.rotate_resource(attachment.resource_id, HOUR, timezone.now())

    def test_an_attachment_of_another_resource_is_not_found(
        self, platform: Platform, attachment: Attachment
    ) -> None:
        other = provision(platform, code="code-2")
        with pytest.raises(AttachmentNotFound):
            key_rotation.rotate_attachment(other.id, attachment.id, HOUR, timezone.now())

    def test_one_that_shares_a_key_is_not_rotated_by_itself(self, attachment: Attachment) -> None:
        shared = Attachment.objects.create(
            id=uuid.uuid4(), resource=attachment.resource, name="SHARED", shares_key=True,
            created_at=timezone.now(),
        )  # fmt: skip
        with pytest.raises(SharedKey, match="SHARED shares the key"):
            rotate(shared, HOUR, timezone.now())

    def test_without_a_way_to_tell_the_platform_nothing_changes(self, platform: Platform) -> None:
        attachment = attachment_of(provision(platform, code=None))
        with pytest.raises(PlatformNotReachable):
            rotate(attachment, NONE, timezone.now())
        assert Credential.objects.get().revoked_at is None


class TestAResource:
    def test_is_rotated_with_every_attachment(self, attachment: Attachment) -> None:
        second = AttachmentRequest(id=uuid.uuid4(), name="SEARCH", app_name="blog")
        provisioning.attach(attachment.resource_id, second, timezone.now())
        detached = AttachmentRequest(id=uuid.uuid4(), name="OLD", app_name="blog")
        provisioning.attach(attachment.resource_id, detached, timezone.now())
        provisioning.detach(attachment.resource_id, detached.id, timezone.now())
        rotated = key_rotation.rotate_resource(attachment.resource_id, HOUR, timezone.now())
        assert [row.name for row in rotated] == ["shop::EMBEDDING", "blog::SEARCH"]
        assert Callback.objects.filter(ended_at=None).count() == 2

    def test_of_all_resources_one_that_refuses_stops_no_other(self, platform: Platform) -> None:
        mute = provision(platform, code=None)
        resource = provision(platform)
        results = list(key_rotation.rotate_all(HOUR, timezone.now()))
        assert [type(result) for result in results] == [NotRotated, Rotated]
        assert Credential.objects.filter(attachment__resource=mute).count() == 1
        assert Credential.objects.filter(attachment__resource=resource).count() == 2


class TestTheConfigVars:
    def test_get_the_new_key_of_the_attachment(
        self, platform: Platform, attachment: Attachment
    ) -> None:
        key_rotation.rotate_attachment(attachment.resource_id, attachment.id, HOUR, timezone.now())
        drive(attachment.resource_id, timezone.now)
        (call,) = [call for call in platform.calls if call.what == ATTACHMENT_CONFIG]
        assert {"name": "INFERENCE_KEY", "value": key_of(attachment)} in call.body["config"]

    def test_are_the_resources_where_it_has_one_key(self, platform: Platform) -> None:
        attachment = attachment_of(provision(platform, has_attachments=False))
        key_rotation.rotate_attachment(attachment.resource_id, attachment.id, HOUR, timezone.now())
        drive(attachment.resource_id, timezone.now)
        (call,) = [call for call in platform.calls if call.what == CONFIG]
        assert {"name": "INFERENCE_KEY", "value": key_of(attachment)} in call.body["config"]

    def test_get_the_last_key_of_two_rotations(
        self, platform: Platform, attachment: Attachment
    ) -> None:
        for _ in range(2):
            key_rotation.rotate_attachment(
                attachment.resource_id, attachment.id, HOUR, timezone.now()
            )
        drive(attachment.resource_id, timezone.now)
        calls = [call for call in platform.calls if call.what == ATTACHMENT_CONFIG]
        assert {"name": "INFERENCE_KEY", "value": key_of(attachment)} in calls[-1].body["config"]


def test_a_crash_before_the_end_leaves_everything_as_it_was(
    attachment: Attachment, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = key_of(attachment)

    def crash(*_: object) -> bool:
        raise SystemExit

    monkeypatch.setattr(callbacks, "queue_config", crash)
    with pytest.raises(SystemExit), transaction.atomic():
        key_rotation.rotate_attachment(attachment.resource_id, attachment.id, NONE, timezone.now())
    assert key_of(attachment) == old
    assert works(old) == [True]


@pytest.mark.django_db(transaction=True)
def test_rotations_at_the_same_moment_leave_one_key_without_an_end(platform: Platform) -> None:
    attachment = attachment_of(provision(platform))
    barrier = threading.Barrier(3)

    def run() -> None:
        barrier.wait()
        try:
            key_rotation.rotate_attachment(
                attachment.resource_id, attachment.id, HOUR, timezone.now()
            )
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(3)]
    connection.close()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Credential.objects.count() == 4
    assert Credential.objects.filter(expires_at=None).count() == 1


class TestTheCommand:
    def test_rotates_an_attachment(self, attachment: Attachment) -> None:
        old = key_of(attachment)
        out = run("--attachment", str(attachment.id), "--overlap", "60")
        assert out.startswith(f"shop::EMBEDDING: {key_of(attachment)[:8]}… is on its way")
        assert key_of(attachment) not in out
        assert works(old, key_of(attachment)) == [True, True]

    def test_rotates_a_resource_and_everything(self, resource: Resource) -> None:
        assert run("--resource", str(resource.id)).count("is on its way") == 1
        assert run("--all", "--overlap", "0").count("is on its way") == 1
        assert Credential.objects.live(timezone.now()).count() == 1

    def test_says_at_its_end_that_some_were_not_rotated(self, platform: Platform) -> None:
        provision(platform, code=None)
        provision(platform)
        with pytest.raises(CommandError, match="1 of them could not be rotated"):
            run("--all")
        assert Credential.objects.count() == 3

    @pytest.mark.parametrize("overlap", ["-1", "604801"])
    def test_refuses_an_overlap_that_is_negative_or_too_long(self, db: None, overlap: str) -> None:
        with pytest.raises(CommandError, match="0 to 604800 seconds"):
            run("--all", f"--overlap={overlap}")

    def test_names_what_there_is_not(self, db: None) -> None:
        unknown = str(uuid.uuid4())
        for which in ("--attachment", "--resource"):
            with pytest.raises(CommandError, match=unknown):
                run(which, unknown)


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("rotate_keys", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


class TestTheAdmin:
    @pytest.mark.parametrize("table", ["resource", "attachment"])
    def test_replaces_keys_and_shows_none(self, attachment: Attachment, table: str) -> None:
        old = key_of(attachment)
        row = attachment if table == "attachment" else attachment.resource
        page = act(User.objects.create_superuser("operator"), table, row)
        assert "is on its way" in page
        new = key_of(attachment)
        assert new != old
        assert new not in page

    @pytest.mark.parametrize("table", ["resource", "attachment"])
    def test_says_why_it_did_not(self, platform: Platform, table: str) -> None:
        resource = provision(platform, code=None)
        row = attachment_of(resource) if table == "attachment" else resource
        page = act(User.objects.create_superuser("operator"), table, row)
        assert "has given no right" in page

    def test_lets_nobody_who_may_only_look(self, attachment: Attachment) -> None:
        looker = User.objects.create_user("looker", is_staff=True)
        may_look = {"content_type__app_label": "provider", "codename": "view_attachment"}
        looker.user_permissions.add(Permission.objects.get(**may_look))
        act(looker, "attachment", attachment)
        assert Credential.objects.count() == 1


def act(user: User, table: str, row: Attachment | Resource) -> str:
    client = Client()
    client.force_login(user)
    form = {"action": "rotate_keys", "_selected_action": str(row.pk)}
    url = reverse(f"admin:provider_{table}_changelist")
    return html.unescape(client.post(url, form, follow=True).content.decode())


class TestThePartnerApi:
    def path(self, resource: Resource) -> str:
        return f"/heroku/resources/{resource.id}/actions/rotate-credentials"

    def test_rotates_every_attachment(self, resource: Resource, attachment: Attachment) -> None:
        old = key_of(attachment)
        answer = call("POST", self.path(resource), {})
        assert answer.status_code == 202
        (row,) = answer.json()["attachments"]
        assert row["id"] == str(attachment.id)
        assert row["old_keys_end_at"].endswith("Z")
        assert key_of(attachment) != old
        assert key_of(attachment) not in answer.content.decode()

    def test_rotates_one_attachment_with_its_own_overlap(
        self, resource: Resource, attachment: Attachment
    ) -> None:
        old = key_of(attachment)
        body = {"attachment": str(attachment.id), "overlap_s": 0}
        assert call("POST", self.path(resource), body).status_code == 202
        assert works(old, key_of(attachment)) == [False, True]

    @pytest.mark.parametrize("overlap_s", [-1, 604_801, "60", 1.5, True, None])
    def test_refuses_a_wrong_overlap_by_name(self, resource: Resource, overlap_s: object) -> None:
        answer = call("POST", self.path(resource), {"overlap_s": overlap_s})
        assert answer.status_code == 422
        assert "overlap_s" in answer.json()["message"]
        assert Credential.objects.count() == 1

    def test_asks_for_the_password_first(self, resource: Resource) -> None:
        path = f"/heroku/resources/{uuid.uuid4()}/actions/rotate-credentials"
        wrong = basic("heroku-inference", "wrong")
        assert call("POST", path, {}, Authorization=wrong).status_code == 401
        assert call("POST", path, {}).status_code == 404

    def test_says_what_cannot_be_done(self, platform: Platform, resource: Resource) -> None:
        mute = provision(platform, code=None)
        answer = call("POST", self.path(mute), {})
        assert (answer.status_code, answer.json()["id"]) == (422, "invalid_params")
        provisioning.deprovision(resource.id, timezone.now())
        assert call("POST", self.path(resource), {}).status_code == 410
