"""`create_account --password` and `set_password`: where a password comes from."""

import getpass
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from addon.platform.accounts import create_account, find_account
from addon.platform.passwords import log_in

pytestmark = pytest.mark.django_db

EMAIL = "dev@example.com"
PASSWORD = "correct horse battery"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def type_passwords(monkeypatch: pytest.MonkeyPatch, *typed: str) -> None:
    answers = iter(typed)
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: next(answers))


def test_set_password_reads_standard_input_that_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = create_account(EMAIL)
    monkeypatch.setattr("sys.stdin", StringIO(f"{PASSWORD}\nsecond line\n"))
    out = StringIO()
    call_command("set_password", EMAIL, stdout=out)
    assert out.getvalue() == f"The password of {EMAIL} is set.\n"
    assert log_in(EMAIL, PASSWORD, "127.0.0.1") == account


def test_set_password_asks_twice_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    account = create_account(EMAIL)
    type_passwords(monkeypatch, PASSWORD, PASSWORD)
    call_command("set_password", EMAIL, stdout=StringIO())
    assert log_in(EMAIL, PASSWORD, "127.0.0.1") == account


def test_two_different_passwords_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    account = create_account(EMAIL)
    type_passwords(monkeypatch, PASSWORD, PASSWORD.upper())
    with pytest.raises(CommandError, match="differ"):
        call_command("set_password", EMAIL)
    account.refresh_from_db()
    assert account.password == ""


@pytest.mark.parametrize("email", ["nobody@example.com", "crew@herokumanager.com"])
def test_set_password_needs_the_account_of_a_person(email: str) -> None:
    with pytest.raises(CommandError, match=f"create_account {email}"):
        call_command("set_password", email)


def test_a_weak_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    create_account(EMAIL)
    monkeypatch.setattr("sys.stdin", StringIO("short\n"))
    with pytest.raises(CommandError, match="too short"):
        call_command("set_password", EMAIL)


def test_create_account_can_set_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(f"{PASSWORD}\n"))
    call_command("create_account", EMAIL, "--password", stdout=StringIO())
    assert log_in(EMAIL, PASSWORD, "127.0.0.1") == find_account(EMAIL)


def test_create_account_makes_nothing_with_a_weak_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("short\n"))
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("create_account", EMAIL, "--password", stdout=StringIO())
    assert find_account(EMAIL) is None
