import copy
from typing import Any

import pytest

from addon.manifest import InvalidManifest, parse_manifest

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
        ("api.regions", ["eu"]),
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
