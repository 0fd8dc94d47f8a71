"""The management commands that `make up`, a release and an operator run."""

from io import StringIO

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command
from pytest_django import Settings

from addon.platform.accounts import find_account
from billing.plans import plans_of
from config import first_account
from inference.catalogue import load_catalogue

pytestmark = pytest.mark.django_db


def test_sync_catalogue_puts_the_addons_plans_on_sale_and_may_run_twice() -> None:
    for _ in range(2):
        out = StringIO()
        call_command("sync_catalogue", stdout=out)
        assert out.getvalue().startswith("heroku-inference: ")
    assert plans_of("heroku-inference").filter(slug="standard", is_default=True).exists()


def test_sync_catalogue_names_the_command_for_each_plan_whose_model_is_not_installed() -> None:
    out = StringIO()
    call_command("sync_catalogue", stdout=out)
    wanted = (
        "heroku-inference:cohere-embed-v4: cohere-embed-v4 is not installed: "
        "manage.py models install cohere-embed-v4"
    )
    assert wanted in out.getvalue().splitlines()
    assert "heroku-inference:all-minilm-l6-v2:" not in out.getvalue()
    assert plans_of("heroku-inference").filter(slug="cohere-embed-v4").exists()


def test_each_model_of_the_catalogue_has_a_plan_of_its_own() -> None:
    call_command("sync_catalogue", stdout=StringIO())
    own = plans_of("heroku-inference").filter(serves_all_models=False)
    assert {(plan.slug, plan.model_id) for plan in own} == {(id_, id_) for id_ in load_catalogue()}


def test_create_account_prints_the_line_that_signs_in() -> None:
    out = StringIO()
    call_command("create_account", "new@example.com", stdout=out)
    assert out.getvalue().startswith("export HEROKU_HOST=http://localhost:5000 HEROKU_API_KEY=HRKU")
    assert find_account("new@example.com") is not None


def test_a_shell_is_not_pointed_at_an_address_from_which_the_cli_would_go_elsewhere(
    settings: Settings,
) -> None:
    call_command("create_account", settings.ACCOUNT_EMAIL, stdout=StringIO())
    settings.PUBLIC_URL = "https://annex.example.com"
    with pytest.raises(CommandError, match=r"annex\.example\.com: .* api\.heroku\.com"):
        call_command("heroku_env", stdout=StringIO())
    settings.PUBLIC_URL = "http://127.0.0.1:5000"
    out = StringIO()
    call_command("heroku_env", stdout=out)
    assert "HEROKU_HOST=http://127.0.0.1:5000 " in out.getvalue()


@pytest.mark.parametrize("email", ["DEV@example.com", "no address"])
def test_create_account_refuses_a_taken_and_a_wrong_address(email: str) -> None:
    call_command("create_account", "dev@example.com", stdout=StringIO())
    with pytest.raises(CommandError, match=email.split("@")[0] if "@" not in email else "already"):
        call_command("create_account", email, stdout=StringIO())


def test_the_operator_keeps_a_password_that_was_changed() -> None:
    first_account.ensure_operator("first-password")
    first_account.ensure_operator("second-password")
    operator = authenticate(username="operator", password="first-password")
    assert operator is not None
    assert operator.is_superuser
