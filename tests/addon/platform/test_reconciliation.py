"""The reconciler: whatever step a process dies at, everything comes to its end all the same."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from addon.lifecycle import State
from addon.platform import app_removal, attachments, provider_client, provisioning, tasks
from addon.platform.models import Addon, AddonService, App, Attachment
from addon.platform.retries import wait_after
from addon.platform.transitions import claim
from addon.provider.credentials import find_identity
from addon.provider.models import Credential, Resource
from tests.addon.platform.bad_provider import BadProvider
from tests.addon.platform.helpers import Api, fast_db_answer, only_addon, register_bad
from tests.addon.rounds_in_turn import reconcile_platform as reconcile


class Killed(BaseException):
    """The process dies here; nothing catches it."""


def kill(monkeypatch: pytest.MonkeyPatch, module: object, name: str, *, after: bool) -> None:
    """Let `module.name` die, before or after it did its work; once."""
    original = getattr(module, name)

    def die(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(module, name, original)
        if after:
            original(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(module, name, die)


def later(**delta: float) -> Callable[[], datetime]:
    moment = timezone.now() + timedelta(**delta)
    return lambda: moment


def reconcile_later() -> None:
    reconcile(later(seconds=31))


@pytest.mark.usefixtures("shop", "blog", "provider")
class TestAProcessThatDies:
    @pytest.mark.parametrize(
        ("module", "name", "after"),
        [
            (provisioning, "drive_provisioning", False),  # rows are in, no call was made
            (provider_client, "provision", True),  # the provider did it, nobody was told
            (provisioning, "move", True),  # in the last transaction, which is rolled back
            (attachments, "create_release", False),  # likewise
        ],
    )
    def test_while_provisioning(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, module: object, name: str, after: bool
    ) -> None:
        kill(monkeypatch, module, name, after=after)
        with pytest.raises(Killed):
            api.add("shop", "EMBEDDING")
        assert only_addon().state == State.PROVISIONING
        assert api.config("shop") == {}
        reconcile_later()
        assert only_addon().state == State.PROVISIONED
        assert find_identity(api.config("shop")["EMBEDDING_KEY"]) is not None
        assert api.releases("shop")[1:] == [f"Attach EMBEDDING ({only_addon().name})"]
        assert Resource.objects.count() == Credential.objects.count() == 1

    @pytest.mark.parametrize(
        ("module", "name", "after"),
        [
            (attachments, "drive_attaching", False),
            (provider_client, "attach", True),
            (attachments, "finish", True),
        ],
    )
    def test_while_attaching(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, module: object, name: str, after: bool
    ) -> None:
        api.add("shop", "EMBEDDING", name="my-embedder")
        kill(monkeypatch, module, name, after=after)
        with pytest.raises(Killed):
            api.attach("my-embedder", "blog", "SEARCH")
        assert api.config("blog") == {}
        reconcile_later()
        assert find_identity(api.config("blog")["SEARCH_KEY"]) is not None
        assert api.releases("blog")[1:] == ["Attach SEARCH (my-embedder)"]
        assert Credential.objects.count() == 2

    @pytest.mark.parametrize(
        ("module", "name", "after"),
        [(attachments, "remove_detached", False), (provider_client, "detach", True)],
    )
    def test_while_detaching(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, module: object, name: str, after: bool
    ) -> None:
        api.add("shop", "EMBEDDING", name="my-embedder")
        attachment = api.attach("my-embedder", "blog", "SEARCH").json()
        key = api.config("blog")["SEARCH_KEY"]
        kill(monkeypatch, module, name, after=after)
        with pytest.raises(Killed):
            api.delete(f"/addon-attachments/{attachment['id']}")
        assert api.config("blog") == {}
        reconcile_later()
        assert find_identity(key) is None
        assert not Attachment.objects.filter(id=attachment["id"]).exists()
        assert len(api.releases("blog")) == 3

    @pytest.mark.parametrize(
        ("module", "name", "after"),
        [(provisioning, "drive_deprovisioning", False), (provider_client, "deprovision", True)],
    )
    def test_while_destroying(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, module: object, name: str, after: bool
    ) -> None:
        api.add("shop", "EMBEDDING", name="my-embedder")
        kill(monkeypatch, module, name, after=after)
        with pytest.raises(Killed):
            api.delete("/apps/shop/addons/my-embedder")
        assert only_addon().state == State.DEPROVISIONING
        reconcile_later()
        assert only_addon().state == State.DEPROVISIONED
        assert Resource.objects.get().deprovisioned_at is not None
        assert not Attachment.objects.exists()
        assert len(api.releases("shop")) == 3

    @pytest.mark.parametrize(
        ("module", "name"), [(app_removal, "remove_remains"), (provisioning, "destroy"),
                             (attachments, "discard")],
    )  # fmt: skip
    def test_while_destroying_an_app(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, module: object, name: str
    ) -> None:
        api.add("shop", "EMBEDDING", name="my-embedder")
        api.add("blog", "OTHER", name="other-embedder")
        api.attach("other-embedder", "shop", "FOREIGN")
        kill(monkeypatch, module, name, after=False)
        with pytest.raises(Killed):
            api.delete("/apps/shop")
        reconcile_later()
        assert Addon.objects.get(name="my-embedder").state == State.DEPROVISIONED
        assert Addon.objects.get(name="other-embedder").state == State.PROVISIONED
        assert [row["name"] for row in api.get("/addon-attachments").json()] == ["OTHER"]
        assert Credential.objects.filter(revoked_at=None).count() == 1

    def test_a_replaced_attachment_is_removed_at_the_provider(self, api: Api) -> None:
        api.add("shop", "A", name="first")
        api.attach("first", "blog", "SEARCH")
        api.add("shop", "B", name="second")
        key = api.config("blog")["SEARCH_KEY"]
        api.attach("second", "blog", "SEARCH", confirm="blog")
        reconcile_later()
        assert find_identity(key) is None
        assert find_identity(api.config("blog")["SEARCH_KEY"]) is not None
        assert Attachment.objects.filter(app__name="blog").count() == 1

    def test_the_task_does_it(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        kill(monkeypatch, provisioning, "drive_provisioning", after=False)
        with pytest.raises(Killed):
            api.add("shop", "EMBEDDING")
        Addon.objects.update(next_attempt_at=timezone.now())
        assert tasks.reconcile.name == "addon.platform.reconcile"
        tasks.reconcile()
        assert only_addon().state == State.PROVISIONED


@pytest.mark.usefixtures("shop")
class TestABadProvider:
    def test_nothing_is_asked_before_it_is_due(self, api: Api, bad_provider: BadProvider) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", "DB", plan="fast-db")
        reconcile(later(seconds=9))
        assert bad_provider.methods() == ["POST"]
        reconcile_later()
        assert bad_provider.methods() == ["POST", "POST"]

    def test_the_same_request_is_repeated_until_it_works(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", "DB", plan="fast-db", config={"size": "s"})
        reconcile_later()
        assert only_addon().attempts == 2
        bad_provider.will("POST", 201, fast_db_answer("up"))
        reconcile(later(minutes=5))
        addon = only_addon()
        assert addon.state == State.PROVISIONED
        assert (addon.last_error, addon.next_attempt_at, addon.deadline_at) == ("", None, None)
        assert api.config("shop") == {"DB_URL": "db://first"}
        bodies = [call.body for call in bad_provider.calls]
        codes = {body.pop("oauth_grant")["code"] for body in bodies}
        assert len(codes) == 3  # each may be the only one that arrives, and is good for 5 minutes
        assert bodies == [bodies[0]] * 3

    def test_waits_grow_from_ten_seconds_to_an_hour(self) -> None:
        waits = [wait_after(attempts).total_seconds() for attempts in range(1, 12)]
        assert waits[:4] == [10, 20, 40, 80]
        assert waits == sorted(waits)
        assert waits[-1] == 3600

    def test_after_a_day_it_is_given_up_and_removed_at_the_provider(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", "DB", plan="fast-db")
        reconcile(later(hours=23, minutes=59))
        assert only_addon().state == State.PROVISIONING
        reconcile(later(hours=25, minutes=1))
        assert bad_provider.methods() == ["POST", "POST", "DELETE"]
        assert only_addon().state == State.DEPROVISIONED
        assert not Attachment.objects.exists()
        assert api.add("shop", "DB", plan="fast-db").status_code == 201

    def test_whoever_waits_for_it_sees_that_it_failed_and_is_told_why(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 500)
        name = api.add("shop", "DB", plan="fast-db").json()["name"]
        bad_provider.will("POST", 422, {"message": "No more room."})
        bad_provider.will("DELETE", 500)
        reconcile_later()
        for path in (f"/addons/{name}", f"/apps/shop/addons/{name}"):
            failed = api.get(path).json()
            assert (failed["state"], failed["config_vars"]) == ("deprovisioned", [])
        assert api.get("/addons").json() == api.get("/apps/shop/addons").json() == []
        (told,) = api.get("/user/notifications").json()
        assert told["title"] == f"{name} was not created"
        assert "No more room." in told["body"]
        assert api.delete(f"/apps/shop/addons/{name}").status_code == 404
        assert api.add("shop", "DB", plan="fast-db", name=name).status_code == 422

    def test_accepted_is_left_alone_for_twelve_hours_and_then_removed(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 202, {"id": "x"})
        api.add("shop", "DB", plan="fast-db")
        reconcile(later(hours=11, minutes=59))
        assert bad_provider.methods() == ["POST"]
        reconcile(later(hours=12, minutes=1))
        assert bad_provider.methods() == ["POST", "DELETE"]
        assert only_addon().state == State.DEPROVISIONED

    def test_a_late_refusal_ends_it_and_removes_what_there_may_be(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", "DB", plan="fast-db")
        bad_provider.will("POST", 422, {"message": "No."})
        reconcile_later()
        reconcile_later()
        assert bad_provider.methods() == ["POST", "POST", "DELETE"]
        assert only_addon().state == State.DEPROVISIONED
        assert not Attachment.objects.exists()

    def test_a_late_503_is_tried_again(self, api: Api, bad_provider: BadProvider) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", "DB", plan="fast-db")
        bad_provider.will("POST", 503, {"message": "Later."})
        reconcile_later()
        assert only_addon().state == State.PROVISIONING

    def test_one_that_is_gone_is_not_asked_for_again(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", "DB", plan="fast-db")
        bad_provider.will("POST", 410)
        reconcile_later()
        reconcile(later(hours=2))
        assert bad_provider.methods() == ["POST", "POST", "DELETE"]
        assert only_addon().state == State.DEPROVISIONED

    def test_a_removal_is_repeated_until_it_works(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        name = api.add("shop", "DB", plan="fast-db").json()["name"]
        bad_provider.will("DELETE", 500)
        api.delete(f"/apps/shop/addons/{name}")
        reconcile_later()
        assert only_addon().state == State.DEPROVISIONING
        bad_provider.will("DELETE", 404)
        reconcile(later(minutes=5))
        assert only_addon().state == State.DEPROVISIONED

    def test_a_detachment_is_repeated_until_it_works(
        self, api: Api, blog: App, bad_provider: BadProvider
    ) -> None:
        name = api.add("shop", "DB", plan="fast-db").json()["name"]
        attachment = api.attach(name, "blog", "COPY").json()
        bad_provider.will("DELETE", 500)
        api.delete(f"/addon-attachments/{attachment['id']}")
        reconcile_later()
        assert Attachment.objects.filter(id=attachment["id"]).exists()
        bad_provider.will("DELETE", 204)
        reconcile(later(minutes=5))
        assert not Attachment.objects.filter(id=attachment["id"]).exists()

    def test_an_attach_without_a_clear_answer_is_removed_at_the_provider(
        self, api: Api, blog: App, bad_provider: BadProvider
    ) -> None:
        name = api.add("shop", "DB", plan="fast-db").json()["name"]
        bad_provider.will("PUT", 500)
        api.attach(name, "blog", "COPY")
        reconcile_later()
        assert bad_provider.methods() == ["POST", "PUT", "DELETE"]
        assert Attachment.objects.count() == 1

    def test_one_destroyed_while_provisioning_is_removed_after_the_lease(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 500)
        name = api.add("shop", "DB", plan="fast-db").json()["name"]
        answer = api.delete(f"/apps/shop/addons/{name}")
        assert answer.json()["state"] == "deprovisioning"
        reconcile(later(seconds=20))
        assert bad_provider.methods() == ["POST"]
        reconcile_later()
        assert bad_provider.methods() == ["POST", "DELETE"]
        assert only_addon().state == State.DEPROVISIONED

    def test_one_rows_trouble_is_not_the_next_ones(
        self,
        api: Api,
        bad_provider: BadProvider,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", "A", plan="fast-db", name="first")
        api.add("shop", "B", plan="fast-db", name="second")
        bad_provider.will("POST", 201, fast_db_answer("up"))
        original = provider_client.provision

        def stumble(addon: Addon, *others: Any) -> provider_client.Reply:
            if addon.name == "first":
                raise RuntimeError("a bug")
            return original(addon, *others)

        monkeypatch.setattr(provider_client, "provision", stumble)
        reconcile_later()
        assert Addon.objects.get(name="second").state == State.PROVISIONED
        assert Addon.objects.get(name="first").state == State.PROVISIONING
        assert "a bug" in caplog.text

    def test_in_parallel_each_row_is_driven_once(self, api: Api, bad_provider: BadProvider) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", "DB", plan="fast-db")
        bad_provider.will("POST", 201, fast_db_answer("up"))
        clock = later(seconds=31)
        barrier = threading.Barrier(3)

        def run() -> None:
            barrier.wait()
            reconcile(clock)
            connection.close()

        threads = [threading.Thread(target=run) for _ in range(3)]
        connection.close()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bad_provider.methods() == ["POST", "POST"]
        assert len(api.releases("shop")) == 2

    def test_of_two_claims_of_what_both_saw_one_holds(
        self, api: Api, bad_provider: BadProvider
    ) -> None:
        bad_provider.will("POST", 500)
        api.add("shop", "DB", plan="fast-db")
        one, other = only_addon(), only_addon()
        now = later(seconds=31)()
        assert claim(one, now)
        assert not claim(other, now)
        assert one.next_attempt_at == now + timedelta(seconds=20)

    def test_without_attachment_credentials_a_dead_attach_is_finished(
        self, api: Api, blog: App, bad_provider: BadProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        register_bad(bad_provider, attachment_credentials=False)
        name = api.add("shop", "DB", plan="fast-db").json()["name"]
        kill(monkeypatch, attachments, "drive_attaching", after=False)
        with pytest.raises(Killed):
            api.attach(name, "blog", "COPY")
        reconcile_later()
        assert api.config("blog") == {"COPY_URL": "db://first"}


def test_nothing_to_do_is_fine(db: None) -> None:
    reconcile(timezone.now)
    assert not AddonService.objects.exists()
