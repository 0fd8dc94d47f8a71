import copy
from typing import Any

import pytest

from addon.manifest import InvalidManifest, ManifestPlan, parse_manifest

VALID: dict[str, Any] = {
    "id": "fast-db",
    "name": "Fast DB",
    "cli_plugin_name": "unknown fields are fine",
    "api": {
        "version": "3",
        "password": "partner-secret",
        "sso_salt": "salt-secret",
        "regions": ["us", "eu"],
        "requires": ["attachable"],
        "config_vars": ["FAST_DB_URL", "FAST_DB_KEY"],
        "production": {
            "base_url": "https://fast.example",
            "sso_url": "https://fast.example/sso/login",
        },
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(VALID)
    *parents, name = path.split(".")
    target = document
    for parent in parents:
        target = target.setdefault(parent, {})
    target[name] = value
    return document


def test_a_manifest_is_read_with_its_defaults() -> None:
    manifest = parse_manifest(VALID)
    assert manifest.config_vars_prefix == "FAST_DB"
    assert manifest.base_url == "https://fast.example/heroku/resources"
    assert manifest.requires == ("attachable",)
    assert manifest.attachment_credentials is False


@pytest.mark.parametrize(
    "url",
    [
        "https://x.example",
        "https://x.example/",
        "https://x.example/heroku/resources",
        "https://x.example/heroku/resources/",
    ],
)
def test_the_resources_path_is_there_once(url: str) -> None:
    manifest = parse_manifest(changed("api.production.base_url", url))
    assert manifest.base_url == "https://x.example/heroku/resources"


def test_our_extension_says_that_attachments_have_credentials() -> None:
    document = changed("api.annex.attachment_credentials", True)
    assert parse_manifest(document).attachment_credentials is True


def test_sso_may_be_absent() -> None:
    document = copy.deepcopy(VALID)
    del document["api"]["sso_salt"], document["api"]["production"]["sso_url"]
    manifest = parse_manifest(document)
    assert (manifest.sso_salt, manifest.sso_url) == (None, None)


PLANS = [
    {"slug": "basic", "price_cents": 900, "default": True},
    {"slug": "big", "name": "Big", "description": "More", "price_cents": 0, "async": True},
]


def test_our_extension_says_what_is_sold() -> None:
    basic, big = parse_manifest(changed("api.annex.plans", PLANS)).plans
    assert basic == ManifestPlan(slug="basic", name="Basic", price_cents=900, is_default=True)
    assert (big.name, big.description, big.is_async, big.is_default) == ("Big", "More", True, False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("slug", "Basic"),
        ("slug", None),
        ("name", ""),
        ("description", 5),
        ("price_cents", -1),
        ("price_cents", 9.5),
        ("price_cents", True),
        ("price_cents", 100_000_001),
        ("default", 1),
        ("async", "yes"),
        ("price", 900),
    ],
)
def test_a_wrong_field_of_a_plan_is_named(key: str, value: object) -> None:
    plans = [{**PLANS[0], key: value}]
    with pytest.raises(InvalidManifest, match="must be") as raised:
        parse_manifest(changed("api.annex.plans", plans))
    assert raised.value.field_name == f"api.annex.plans[0].{key}"


@pytest.mark.parametrize("plans", [{}, [PLANS[0], PLANS[0]], [PLANS[1]], [*PLANS, {}]])
def test_plans_have_slugs_that_differ_and_one_default(plans: object) -> None:
    with pytest.raises(InvalidManifest, match=r"api\.annex\.plans"):
        parse_manifest(changed("api.annex.plans", plans))


def test_no_secret_is_in_the_repr() -> None:
    assert "secret" not in repr(parse_manifest(VALID))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("id", "Fast DB"),
        ("id", "fast--db"),
        ("name", ""),
        ("api", []),
        ("api.version", "1"),
        ("api.version", None),
        ("api.password", 5),
        ("api.regions", []),
        ("api.regions", ["us", "moon"]),
        ("api.regions", [["us"]]),
        ("api.requires", "attachable"),
        ("api.requires", ["teleport"]),
        ("api.config_vars_prefix", "fast"),
        ("api.config_vars", []),
        ("api.config_vars", ["OTHER_URL"]),
        ("api.config_vars", ["FAST_DB_"]),
        ("api.config_vars", [7]),
        ("api.production", "https://fast.example"),
        ("api.production.base_url", "ftp://fast.example"),
        ("api.production.base_url", "https://"),
        ("api.production.sso_url", "fast.example"),
        ("api.annex", True),
        ("id", "f" * 101),
        ("name", "f" * 201),
        ("name", "Fast\0DB"),
        ("name", "\ud800"),
        ("api.password", "two\nlines"),
        ("api.sso_salt", "s" * 201),
        ("api.config_vars_prefix", "F" * 101),
        ("api.config_vars", ["FAST_DB_" + "X" * 121]),
        ("api.config_vars", ["FAST_DB_URL"] * 101),
        ("api.production.base_url", "https://[::1"),
        ("api.production.base_url", "https://fast.example:99999"),
        ("api.production.base_url", "https://fast.example/" + "x" * 480),
        ("api.production.sso_url", "https://fast example/"),
        ("api.annex.attachment_credentials", "yes"),
    ],
)
def test_a_wrong_field_is_named(path: str, value: object) -> None:
    with pytest.raises(InvalidManifest, match="must be") as raised:
        parse_manifest(changed(path, value))
    assert raised.value.field_name == path
    assert str(raised.value).startswith(path)


def test_only_an_object_is_a_manifest() -> None:
    with pytest.raises(InvalidManifest, match="the manifest must be an object"):
        parse_manifest("[]")
