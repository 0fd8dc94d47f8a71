"""Whom `make up` makes, and what it may say about them at a later start."""

from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from addon.platform.accounts import create_account, find_account
from addon.platform.authorizations import find_authorization
from addon.platform.heroku_apps import NewApp, create_app
from addon.platform.models import Authorization
from config.first_account import ensure_account, ensure_operator, find_api_key, free_app_name

pytestmark = pytest.mark.django_db


def test_the_operators_password_is_known_until_it_is_changed() -> None:
    assert ensure_operator("generated-once")
    assert ensure_operator("generated-once")
    operator = User.objects.get(username="operator")
    operator.set_password("chosen by the operator")
    operator.save()
    assert not ensure_operator("generated-once")


def test_the_account_keeps_its_key() -> None:
    key = ensure_account("dev@example.com")
    assert ensure_account("dev@example.com") == key


def test_a_name_that_no_app_has_is_suggested() -> None:
    assert free_app_name("shop") == "shop"
    account = create_account("dev@example.com")
    for name in ("shop", "shop-2"):
        create_app(account, NewApp(name=name, region="us", stack="heroku-24"), timezone.now())
    assert free_app_name("shop") == "shop-3"


def test_heroku_env_makes_a_key_for_an_account_that_has_none() -> None:
    account = create_account("viaadmin@example.com")
    assert find_api_key(account) is None
    for _ in range(2):
        output = StringIO()
        call_command("heroku_env", account="viaadmin@example.com", stdout=output)
        key = output.getvalue().split("HEROKU_API_KEY=")[1].split()[0]
        assert find_authorization(key, timezone.now()) is not None
    assert Authorization.objects.filter(account=account).count() == 1


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
