"""Whom `make up` makes, and what it may say about them at a later start."""

from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from addon.platform.accounts import create_account, find_account
from addon.platform.authorizations import find_authorization
from addon.platform.heroku_apps import NewApp, create_app
from addon.platform.models import Authorization
from config.first_account import ensure_account, ensure_operator, free_app_name

pytestmark = pytest.mark.django_db


def test_the_operators_password_is_known_until_it_is_changed() -> None:
    assert ensure_operator("generated-once")
    assert ensure_operator("generated-once")
    operator = User.objects.get(username="operator")
    operator.set_password("chosen by the operator")
    operator.save()
    assert not ensure_operator("generated-once")


def test_the_account_keeps_its_key() -> None:
    for _ in range(2):
        assert ensure_account("dev@example.com", "HRKU-first") == "HRKU-first"


def test_a_key_that_was_revoked_or_is_anothers_is_replaced() -> None:
    ensure_account("dev@example.com", "HRKU-first")
    another = ensure_account("other@example.com", "HRKU-first")
    assert another != "HRKU-first"
    Authorization.objects.filter(account__email="dev@example.com").update(revoked_at=timezone.now())
    fresh = ensure_account("dev@example.com", "HRKU-first")
    assert find_authorization("HRKU-first", timezone.now()) is None
    assert find_authorization(fresh, timezone.now()) is not None


def test_a_name_that_no_app_has_is_suggested() -> None:
    assert free_app_name("shop") == "shop"
    account = create_account("dev@example.com")
    for name in ("shop", "shop-2"):
        create_app(account, NewApp(name=name, region="us", stack="heroku-24"), timezone.now())
    assert free_app_name("shop") == "shop-3"


def test_heroku_env_makes_a_key_for_an_account_that_has_none() -> None:
    account = create_account("viaadmin@example.com")
    output = StringIO()
    call_command("heroku_env", account="viaadmin@example.com", stdout=output)
    key = output.getvalue().split("HEROKU_API_KEY=")[1].split()[0]
    found = find_authorization(key, timezone.now())
    assert found is not None
    assert found.account == account


def test_heroku_env_prints_the_first_accounts_key(settings: Settings) -> None:
    settings.ACCOUNT_API_KEY = "HRKU-first"
    ensure_account(settings.ACCOUNT_EMAIL, "HRKU-first")
    output = StringIO()
    call_command("heroku_env", stdout=output)
    assert "HEROKU_API_KEY=HRKU-first" in output.getvalue()


def test_heroku_env_of_nobody_names_the_command_that_makes_an_account() -> None:
    with pytest.raises(CommandError, match=r"create_account nobody@example\.com"):
        call_command("heroku_env", account="nobody@example.com")


def test_create_account_prints_its_key_and_refuses_a_second_one() -> None:
    output = StringIO()
    call_command("create_account", "a@example.com", stdout=output)
    assert output.getvalue().startswith("export HEROKU_HOST=http://localhost:5000 HEROKU_API_KEY=")
    assert find_account("a@example.com") is not None
    with pytest.raises(CommandError, match="heroku_env --account"):
        call_command("create_account", "a@example.com")
