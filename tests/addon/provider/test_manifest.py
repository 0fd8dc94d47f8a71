"""Our own manifest: `manage.py manifest`, and the example that is committed."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from pytest_django import Settings

from addon.manifest import parse_manifest
from addon.provider.manifest import own_manifest

EXAMPLE = Path(django_settings.BASE_DIR) / "addon-manifest.example.json"
KENSA_REGIONS = {"us", "eu", "frankfurt", "oregon", "tokyo", "virginia", "*"}

Capsys = pytest.CaptureFixture[str]


@pytest.fixture
def deployed(settings: Settings) -> Settings:
    """As behind annex.example.com."""
    settings.PUBLIC_URL = settings.PROVIDER_URL = "https://annex.example.com"
    settings.PORT = 5000
    settings.SSO_SALT = "a-salt-that-only-the-tests-use"
    return settings


def printed(capsys: Capsys, *words: str) -> dict[str, Any]:
    call_command("manifest", *words)
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def check_as_kensa(document: dict[str, Any]) -> None:
    """Every check that kensa 3.1.0 makes of a manifest (its lib/heroku/kensa/check.rb)."""
    api = document["api"]
    assert isinstance(document["id"], str)
    assert document["id"]
    assert set(api["regions"]) <= KENSA_REGIONS
    assert {"us", "*"} & set(api["regions"])
    assert api["password"]
    assert "username" not in api
    for environment in ("production", "test"):
        for name in ("base_url", "sso_url"):
            url = urlsplit(api[environment][name])
            assert url.hostname
            assert environment == "test" or url.scheme == "https"
    prefix = api.get("config_vars_prefix", document["id"].upper().replace("-", "_"))
    for name in api["config_vars"]:
        assert re.fullmatch(r"[A-Z][0-9A-Z_]+", name)
        assert name.startswith(f"{prefix}_")


def test_the_example_is_what_is_printed_without_secrets(deployed: Settings, capsys: Capsys) -> None:
    assert json.loads(EXAMPLE.read_text()) == printed(capsys, "--without-secrets")


def test_the_example_is_a_valid_manifest_without_a_secret(deployed: Settings) -> None:
    text = EXAMPLE.read_text()
    check_as_kensa(json.loads(text))
    assert parse_manifest(json.loads(text)).requires == ("attachable", "many_per_app", "log_input")
    assert deployed.PROVIDER_PASSWORD not in text
    assert deployed.SSO_SALT not in text


def test_what_is_printed_has_the_secrets_and_is_what_we_register(
    deployed: Settings, capsys: Capsys
) -> None:
    document = printed(capsys)
    check_as_kensa(document)
    assert document["api"]["password"] == deployed.PROVIDER_PASSWORD
    assert document["api"]["sso_salt"] == deployed.SSO_SALT
    assert parse_manifest(document) == own_manifest()


@pytest.mark.parametrize("regions", [["us"], ["eu"], ["us", "eu"]])
def test_it_has_the_regions_that_are_served(settings: Settings, regions: list[str]) -> None:
    settings.REGIONS = regions
    assert list(own_manifest().regions) == regions


def test_what_heroku_would_not_take_is_said_beside_it(settings: Settings, capsys: Capsys) -> None:
    settings.PROVIDER_URL = "http://localhost:5000"
    settings.SSO_SALT = ""
    call_command("manifest")
    output = capsys.readouterr()
    assert "sso_salt" not in output.out
    assert "https only" in output.err
    assert "SSO_SALT" in output.err


def test_settings_that_make_no_manifest_are_refused(settings: Settings) -> None:
    settings.ADDON_SERVICE_NAME = "Not A Name"
    with pytest.raises(CommandError, match="make no manifest: id must be"):
        call_command("manifest")
