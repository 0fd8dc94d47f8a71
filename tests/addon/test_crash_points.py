"""Whatever step a process dies at, on either side: both come to agree, within seconds.

Platform and provider are one process here, and meet over HTTP all the same. A step dies by an
exception that ends the work of its process; tests/chaos/test_addons.py kills processes.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from addon.lifecycle import State
from addon.platform.accounts import create_account
from addon.platform.addon_services import register
from addon.platform.config_vars import config_of
from addon.platform.models import Addon, App, Attachment, AttachmentState
from addon.platform.retries import FIRST_WAIT
from addon.provider import deliveries
from addon.provider.credentials import find_identity
from addon.provider.manifest import own_manifest
from addon.provider.models import Callback, Credential, Resource
from billing.models import Plan, Subscription
from billing.plans import sync_plans
from tests.addon.crash_points import (
    ALL,
    ASYNC,
    DEPROVISIONING,
    PLAN_CHANGE,
    PROVISIONING,
    SYNC,
    step_of,
)
from tests.addon.platform.helpers import Api, api_of, new_app
from tests.addon.rounds_in_turn import reconcile_platform, reconcile_provider

BACKGROUND = ["provision", "plan_change", "deprovision"]
FIRST_PLAN = "heroku-inference:standard"
OTHER_PLAN = "heroku-inference:cohere-embed-multilingual"
# Both leases, and both reconcilers' periods.
PERIOD = timedelta(seconds=5)
WITHIN = FIRST_WAIT + deliveries.LEASE + 2 * PERIOD


class Died(Exception):
    """The process dies here."""


@pytest.fixture(params=[BACKGROUND, []], ids=["async", "sync"])
def is_async(request: pytest.FixtureRequest, live_server: LiveServer, settings: Any) -> bool:
    settings.PUBLIC_URL = settings.PROVIDER_URL = live_server.url
    settings.PLATFORM_URLS = [live_server.url]
    sync_plans()
    Plan.objects.update(async_operations=request.param)
    register(own_manifest())
    return bool(request.param)


@pytest.fixture
def shop(is_async: bool) -> App:
    return new_app(create_account("dev@example.com"), "shop")


@pytest.fixture
def api(shop: App) -> Api:
    return api_of(shop.owner)


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, point: str) -> Iterator[None]:
    """The function dies once within the block, before or after it has done its work."""
    module, name = find_step(point)
    original = getattr(module, name)
    died: list[str] = []

    def die(*args: object, **kwargs: object) -> object:
        if died:
            return original(*args, **kwargs)
        died.append(name)
        if point.endswith("after"):
            original(*args, **kwargs)
        raise Died(name)

    with monkeypatch.context() as patched:
        patched.setattr(module, name, die)
        try:
            yield
        except AssertionError as error:
            error.add_note(f"died {point}")
            raise


def find_step(point: str) -> tuple[ModuleType, str]:
    path, _, name = step_of(point).rpartition(".")
    return importlib.import_module(f"addon.{path}"), name


def settle() -> None:
    """Both reconcilers run for a while, and die where they are to."""
    start = timezone.now()
    passed = timedelta()
    while passed <= WITHIN:
        clock = at(start + passed)
        reconcile_provider(clock)
        reconcile_platform(clock)
        passed += PERIOD
    Addon.objects.update(updated_at=start)  # what is changed next is changed after that


def at(moment: datetime) -> Callable[[], datetime]:
    return lambda: moment


def check_agreement(shop: App) -> None:
    """No orphan, no duplicate, no key without an add-on and no add-on without a key."""
    addons = {addon.id: addon for addon in Addon.objects.exclude(state=State.DEPROVISIONED)}
    resources = {row.id: row for row in Resource.objects.filter(deprovisioned_at=None)}
    assert {addon.state for addon in addons.values()} <= {State.PROVISIONED}
    assert addons.keys() == resources.keys()
    for addon in addons.values():
        resource = resources[addon.id]
        assert resource.plan_slug == addon.plan.slug
        assert (resource.pending, resource.next_attempt_at, addon.next_attempt_at) == (
            "", None, None,
        )  # fmt: skip
    assert not Attachment.objects.exclude(state=AttachmentState.ATTACHED).exists()
    config = config_of(shop)
    for attachment in Attachment.objects.all():
        identity = find_identity(config[f"{attachment.name}_KEY"])
        assert identity is not None
        assert identity.attachment_id == attachment.id
        wanted = attachment.addon.plan.model_id
        assert config[f"{attachment.name}_MODEL_ID"] == wanted
    live = Credential.objects.filter(revoked_at=None)
    assert live.count() == Attachment.objects.count() == len(config) / 3
    assert not Callback.objects.filter(ended_at=None).exists()
    open_ones = Subscription.objects.filter(end_at=None)
    assert {(row.resource_id, row.plan_id) for row in open_ones} == {
        (addon.id, addon.plan_id) for addon in addons.values()
    }


@pytest.fixture
def client_survives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose process dies has no answer; here it has a 500."""
    from tests.addon.platform import helpers

    monkeypatch.setattr(helpers._client(), "raise_request_exception", False)


def installed(shop: App, api: Api) -> str:
    assert api.add("shop", "EMBEDDING", name="my-embedder").status_code == 201
    settle()
    check_agreement(shop)
    return "/apps/shop/addons/my-embedder"


@pytest.mark.usefixtures("client_survives")
class TestAgreement:
    def test_without_a_death(self, api: Api, shop: App, is_async: bool) -> None:
        path = installed(shop, api)
        assert api.releases("shop") == ["Initial release", "Attach EMBEDDING (my-embedder)"]
        changed = api.patch(path, {"plan": OTHER_PLAN}).json()
        assert (changed["plan"]["name"] == OTHER_PLAN) is not is_async
        settle()
        check_agreement(shop)
        assert api.get(path).json()["plan"]["name"] == OTHER_PLAN
        state = api.delete(path).json()["state"]
        assert state == ("deprovisioning" if is_async else "deprovisioned")
        settle()
        check_agreement(shop)
        assert api.get(path).status_code == 404

    def test_after_a_death_while_provisioning(
        self, api: Api, shop: App, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for count, point in enumerate(PROVISIONING, start=1):
            with dying(monkeypatch, point):
                api.add("shop", f"EMBEDDING_{count}")
                settle()
                check_agreement(shop)
                assert Addon.objects.count() == Resource.objects.count() == count
                assert Credential.objects.count() == count
                assert len(api.releases("shop")) == 1 + count

    def test_after_a_death_while_changing_the_plan(
        self, api: Api, shop: App, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = installed(shop, api)
        key = config_of(shop)["EMBEDDING_KEY"]
        for count, point in enumerate(PLAN_CHANGE):
            with dying(monkeypatch, point):
                other = OTHER_PLAN if count % 2 == 0 else FIRST_PLAN
                api.patch(path, {"plan": other})
                settle()
                check_agreement(shop)
                assert config_of(shop)["EMBEDDING_KEY"] == key
            api.patch(path, {"plan": other})  # if nothing came of it
            settle()
            assert Addon.objects.get().plan.name == other

    def test_after_a_death_while_deprovisioning(
        self, api: Api, shop: App, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for point in DEPROVISIONING:
            path = installed(shop, api)
            key = config_of(shop)["EMBEDDING_KEY"]
            with dying(monkeypatch, point):
                api.delete(path)
                assert config_of(shop) == {}
                settle()
                check_agreement(shop)
                assert find_identity(key) is None
                assert not Addon.objects.exclude(state=State.DEPROVISIONED).exists()

    def test_after_an_owner_who_changes_its_mind(
        self, api: Api, shop: App, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        api.add("shop", "EMBEDDING", name="my-embedder")
        api.delete("/apps/shop/addons/my-embedder")
        settle()
        check_agreement(shop)
        assert not Addon.objects.exclude(state=State.DEPROVISIONED).exists()


def test_every_point_is_reached(
    is_async: bool, shop: App, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a death there would be no death."""
    reached: set[str] = set()

    def watch(point: str) -> None:
        module, name = find_step(point)
        original = getattr(module, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            reached.add(step_of(point))
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, watched)

    steps = {step_of(point): point for point in ALL}
    for point in steps.values():
        watch(point)
    path = installed(shop, api)
    api.patch(path, {"plan": OTHER_PLAN})
    settle()
    api.delete(path)
    settle()
    assert reached >= steps.keys() - (SYNC if is_async else ASYNC)
