"""However a provider fails: the user gets a sentence, the state is right, and it is asked again.

Each way to fail is tried at each thing that a provider is asked for, over real sockets.
"""

import gzip
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from addon.lifecycle import State
from addon.platform import provider_client
from addon.platform.models import Addon, AddonService, Attachment
from addon.platform.retries import CALL_TIMEOUT_S
from billing.models import Plan, Price
from tests.addon.platform.bad_provider import BadProvider, Call, running_bad_provider
from tests.addon.platform.helpers import Api, fast_db_answer
from tests.addon.rounds_in_turn import reconcile_platform as reconcile

TIMEOUT_S = 0.4
SECRET = "words-of-the-provider"
BOMB = gzip.compress(b" " * 20_000_000)
UNREACHABLE = "http://127.0.0.1:1/heroku/resources"


class Failing:
    """The provider `fast-db`, which fails in one of the ways until it works."""

    def __init__(
        self, provider: BadProvider, elsewhere: BadProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.monkeypatch = monkeypatch
        self.provider = provider
        self.elsewhere = elsewhere
        self.url = f"{provider.url}/heroku/resources"

    def fails(self, way: str) -> None:
        provider = self.provider
        self.monkeypatch.setattr(provider_client, "CALL_TIMEOUT_S", TIMEOUT_S)
        for method in ("POST", "PUT", "DELETE"):
            match way:
                case "is unreachable":
                    AddonService.objects.update(base_url=UNREACHABLE)
                case "is slow":
                    provider.will(method, hangs=True)
                case "trickles its answer":
                    provider.will(method, 201, trickles=True)
                case "trickles its headers":
                    provider.will(method, 201, trickles_headers=True)
                case "answers 500":
                    provider.will(method, 500, {"message": SECRET})
                case "answers malformed JSON":
                    provider.will(
                        method, 500 if method == "DELETE" else 201, b'{"id": ' + SECRET.encode()
                    )
                case "redirects":
                    provider.will(method, 307, headers={"Location": f"{self.elsewhere.url}/x"})
                case "answers 10 MB":
                    provider.will(method, 201, b" " * 10_000_000)
                case "answers a bomb":
                    status = 500 if method == "DELETE" else 201
                    provider.will(method, status, BOMB, headers={"Content-Encoding": "gzip"})
                case "hangs up":
                    provider.will(
                        method, raw=b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{"
                    )
                case _:
                    provider.will(method, raw=b"SSH-2.0-OpenSSH_9.2\r\n")

    def works(self) -> None:
        self.monkeypatch.setattr(provider_client, "CALL_TIMEOUT_S", CALL_TIMEOUT_S)
        AddonService.objects.update(base_url=self.url)
        self.provider.will("POST", 201, fast_db_answer("up"))
        self.provider.will("PUT", 200, {"config": {"FAST_DB_URL": "db://second"}})
        self.provider.will("DELETE", 204)


@pytest.fixture
def failing(bad_provider: BadProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    big = Plan.objects.create(
        service_name="fast-db", slug="large", human_name="Large",
        requests_per_minute=1, tokens_per_minute=1,
    )  # fmt: skip
    since = timezone.now() - timedelta(days=1)
    Price.objects.create(plan=big, version=1, active_from=since, monthly_microunits=9_000_000)
    with running_bad_provider() as elsewhere:
        elsewhere.will("POST", 201, fast_db_answer("elsewhere"))
        elsewhere.will("PUT", 200, {})
        elsewhere.will("DELETE", 204)
        yield Failing(bad_provider, elsewhere, monkeypatch)
        assert elsewhere.calls == []  # no redirect was followed: it would have got the password


WAYS = [
    "is unreachable",
    "is slow",
    "trickles its answer",
    "trickles its headers",
    "answers 500",
    "answers malformed JSON",
    "redirects",
    "answers 10 MB",
    "answers a bomb",
    "hangs up",
    "speaks no HTTP",
]


def later(**delta: float) -> None:
    moment = timezone.now() + timedelta(**delta)
    reconcile(lambda: moment)


@pytest.mark.usefixtures("shop", "blog")
@pytest.mark.parametrize("way", WAYS)
def test_a_provider_that(api: Api, failing: Failing, way: str) -> None:
    """One after the other: to provision, to attach, to change the plan, to deprovision."""
    changed = api.add("shop", "CHANGED", plan="fast-db:tiny").json()
    destroyed = api.add("shop", "DESTROYED", plan="fast-db:tiny").json()
    failing.fails(way)
    started_at = time.monotonic()
    answers = [
        _is_provisioning(api),
        _is_not_attached(api, changed["name"]),
        _has_the_plan_it_had(api, changed["id"]),
        _is_deprovisioning(api, destroyed["id"]),
    ]
    assert time.monotonic() - started_at < len(answers) * (TIMEOUT_S + 2)
    assert SECRET not in "".join(answers)
    assert not Addon.objects.filter(last_error__contains=SECRET).exists()

    calls = len(failing.provider.calls)
    later(seconds=-60)
    assert len(failing.provider.calls) == calls  # not before it is due
    failing.works()
    later(seconds=31)
    _assert_settled(api, failing.provider.calls[calls:])


def _is_provisioning(api: Api) -> str:
    answer = api.add("shop", "NEW", plan="fast-db:tiny")
    body = answer.json()
    assert (answer.status_code, body["state"], body["config_vars"]) == (201, "provisioning", [])
    assert "asked again in the background" in body["provision_message"]
    assert "NEW_URL" not in api.config("shop")
    assert Addon.objects.get(id=body["id"]).last_error.startswith("the provider")
    return str(answer.content)


def _is_not_attached(api: Api, addon: str) -> str:
    answer = api.attach(addon, "blog", "COPY")
    assert answer.status_code == 503
    assert "Nothing was attached" in answer.json()["message"]
    assert api.config("blog") == {}
    return str(answer.content)


def _has_the_plan_it_had(api: Api, addon: str) -> str:
    answer = api.patch(f"/apps/shop/addons/{addon}", {"plan": {"name": "fast-db:large"}})
    assert answer.status_code == 503
    assert "The plan is still fast-db:tiny; please try again" in answer.json()["message"]
    assert Addon.objects.get(id=addon).plan.slug == "tiny"
    return str(answer.content)


def _is_deprovisioning(api: Api, addon: str) -> str:
    answer = api.delete(f"/apps/shop/addons/{addon}")
    assert (answer.status_code, answer.json()["state"]) == (200, "deprovisioning")
    assert "DESTROYED_URL" not in api.config("shop")
    return str(answer.content)


def _assert_settled(api: Api, calls: list[Call]) -> None:
    """Each was asked for once more, by the same ids, and both sides agree."""
    rows = {
        addon.attachments.get().name: addon for addon in Addon.objects.filter(state="provisioned")
    }
    assert set(rows) == {"NEW", "CHANGED"}
    assert (rows["CHANGED"].plan.slug, rows["CHANGED"].next_attempt_at) == ("tiny", None)
    assert Addon.objects.filter(state=State.DEPROVISIONED).count() == 1
    assert set(api.config("shop")) == {"NEW_URL", "CHANGED_URL"}
    assert set(Attachment.objects.values_list("name", flat=True)) == {"NEW", "CHANGED"}
    assert sorted(call.method for call in calls) == ["DELETE", "DELETE", "POST", "PUT"]
    bodies = {call.method: call.body for call in calls}
    assert bodies["POST"]["uuid"] == str(rows["NEW"].id)
    assert bodies["PUT"] == {"plan": "tiny"}
