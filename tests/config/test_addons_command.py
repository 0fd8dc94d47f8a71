"""`manage.py addons`, as an operator runs it."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from addon.platform.models import AddonService
from billing.models import Plan
from tests.addon.conformance.providers import running

pytestmark = pytest.mark.django_db

MANIFEST: dict[str, Any] = {
    "id": "fast-db",
    "name": "Fast DB",
    "api": {
        "version": "3",
        "password": "partner-password",
        "regions": ["us"],
        "config_vars": ["FAST_DB_URL"],
        "production": {"base_url": "https://fast.example"},
        "annex": {
            "plans": [
                {"slug": "basic", "price_cents": 900, "default": True},
                {"slug": "big", "price_cents": 9950},
            ]
        },
    },
}


def addons(*arguments: str) -> str:
    out = io.StringIO()
    call_command("addons", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "addon-manifest.json"
    path.write_text(json.dumps(MANIFEST))
    return str(path)


def test_register_prints_the_plans_and_once_the_client_secret(manifest: str) -> None:
    printed = addons("register", manifest)
    secret = AddonService.objects.get().oauth_client_secret
    assert printed.splitlines() == [
        "fast-db: 2 plans",
        "  fast-db:basic: 9.00 a month, the default",
        "  fast-db:big: 99.50 a month",
        f"OAuth client secret, shown only now: {secret}",
    ]
    assert secret not in addons("register", manifest)
    assert AddonService.objects.get().oauth_client_secret == secret
    assert "OAuth client secret" in addons("register", manifest, "--new-secret")


def test_register_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(MANIFEST)))
    assert addons("register", "-").startswith("fast-db: 2 plans")


def test_list_and_retire(manifest: str) -> None:
    addons("register", manifest)
    listed = addons("list").splitlines()
    assert listed[0] == "fast-db (ga), 0 add-ons, regions us: https://fast.example/heroku/resources"
    assert listed[1:] == [
        "  fast-db:basic: 9.00 a month, the default",
        "  fast-db:big: 99.50 a month",
    ]
    assert addons("retire", "fast-db") == "fast-db is not on sale any more; 0 add-ons go on\n"
    assert len(addons("list").splitlines()) == 1


def test_a_plan_that_is_paid_by_use_is_listed_as_metered(manifest: str) -> None:
    document = json.loads(Path(manifest).read_text())
    document["api"]["annex"]["plans"][0]["price_cents"] = 0
    Path(manifest).write_text(json.dumps(document))
    addons("register", manifest)
    Plan.objects.update(is_metered=True)
    assert addons("list").splitlines()[1:] == [
        "  fast-db:basic: metered, the default",
        "  fast-db:big: 99.50 a month, metered",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["register", "nosuch.json"], "nosuch.json: No such file"),
        (["retire", "nosuch"], "no add-on service nosuch"),
        (["retire", "heroku-inference"], "own add-on"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        addons(*arguments)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "is not JSON"), ("{}", "must be an object"), ("[" * 100_000, "is not JSON")],
)
def test_a_wrong_manifest_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "addon-manifest.json"
    path.write_text(text)
    with pytest.raises(CommandError, match=said):
        addons("register", str(path))
    assert not AddonService.objects.exists()


def test_a_service_without_plans_is_said_to_have_nothing_on_sale(tmp_path: Path) -> None:
    path = tmp_path / "addon-manifest.json"
    path.write_text(json.dumps({**MANIFEST, "api": {**MANIFEST["api"], "annex": {}}}))
    assert "nothing is on sale" in addons("register", str(path))


def test_test_runs_the_suite_and_ends_with_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "addon-manifest.json"
    with running() as provider:
        path.write_text(json.dumps(provider.manifest()))
        with pytest.raises(SystemExit) as ended:
            addons("test", str(path), "--only", "provision", "--listen", "127.0.0.1:0")
    assert ended.value.code == 0
    assert "ok   provision.status" in capsys.readouterr().out
