"""`heroku login`, in the terminal and by a browser, and `heroku logout`."""

import sys
from pathlib import Path

import pytest

from tests.e2e.annex import ROOT, Annex
from tests.e2e.cli import HerokuCli
from tests.e2e.conftest import Running

EMAIL = "tina@example.com"
PASSWORD = "correct horse battery"


@pytest.fixture(scope="session")
def tina(annex: Annex) -> None:
    annex.manage("create_account", EMAIL, "--name", "Tina", "--password", typed=f"{PASSWORD}\n")


@pytest.fixture
def loggedout(running: Running, tina: None, tmp_path: Path) -> HerokuCli:
    """The CLI of somebody who has no key yet; what it is given it keeps in ~/.netrc."""
    exports = {**running.second.exports, "HEROKU_NETRC_WRITE": "true"}
    del exports["HEROKU_API_KEY"]
    return HerokuCli(exports, tmp_path)


def browser(folder: Path, decision: str) -> str:
    """A program that decides on the page that it is started with."""
    program = folder / "browser"
    words = f"{sys.executable} -m tests.e2e.browser {EMAIL} '{PASSWORD}' {decision}"
    program.write_text(f'#!/bin/sh\ncd {ROOT} && exec {words} "$1"\n')
    program.chmod(0o700)
    return str(program)


def test_a_person_logs_in_with_a_password_and_out_again(
    loggedout: HerokuCli, tmp_path: Path
) -> None:
    answers = [("Email", f"{EMAIL}\r"), ("Password", f"{PASSWORD}\r")]
    login = loggedout.in_terminal("login", "--interactive", answers=answers)
    assert login.status == 0, login.seen
    assert f"Logged in as {EMAIL}" in login.seen
    assert loggedout("auth:whoami").stdout.strip() == EMAIL
    token = loggedout("auth:token").stdout.strip()
    assert token in (tmp_path / ".netrc").read_text()
    assert "token will expire" in loggedout("auth:token").seen
    assert "Heroku CLI login from" in loggedout("authorizations").stdout
    loggedout("logout")
    assert token not in (tmp_path / ".netrc").read_text()
    loggedout.env["HEROKU_API_KEY"] = token
    assert "Invalid credentials provided" in loggedout.try_("auth:whoami").seen


def test_a_wrong_password_is_said_so(loggedout: HerokuCli) -> None:
    answers = [("Email", f"{EMAIL}\r"), ("Password", "wrong\r")]
    login = loggedout.in_terminal("login", "--interactive", answers=answers)
    assert login.status != 0
    assert "Invalid credentials provided" in login.seen


def test_a_person_logs_in_by_a_browser(loggedout: HerokuCli, tmp_path: Path) -> None:
    login = loggedout.in_terminal(
        "login", "--browser", browser(tmp_path, "allow"), answers=[("Press any key", "x")]
    )
    assert login.status == 0, login.seen
    assert f"Logged in as {EMAIL}" in login.seen
    assert loggedout("auth:whoami").stdout.strip() == EMAIL
    loggedout("logout")


def test_a_login_is_denied_by_a_browser(loggedout: HerokuCli, tmp_path: Path) -> None:
    login = loggedout.in_terminal(
        "login", "--browser", browser(tmp_path, "deny"), answers=[("Press any key", "x")]
    )
    assert login.status != 0
    assert "The login was denied in the browser." in login.seen


def test_keys_are_made_listed_shown_changed_rotated_and_revoked(heroku: HerokuCli) -> None:
    created = heroku("authorizations:create", "-d", "ci key", "-e", "3600", "-s", "read,write").seen
    assert "Description: ci key" in created
    assert "Scope: read,write" in created
    assert "in about 1 hour" in created
    token = created.partition("Token: ")[2].split()[0]
    key_id = created.partition("ID: ")[2].split()[0]
    heroku.env["HEROKU_API_KEY"], own = token, heroku.env["HEROKU_API_KEY"]
    try:
        assert heroku("apps").status == 0
        refused = heroku.try_("authorizations:create", "-s", "global").seen
        assert "This needs an access token with the scope global" in refused
    finally:
        heroku.env["HEROKU_API_KEY"] = own
    assert key_id in heroku("authorizations").stdout
    shown = heroku("authorizations:info", key_id).seen
    assert token not in shown
    assert f"Token: {token[:9]}**********{token[-4:]}" in shown
    assert "cd key" in heroku("authorizations:update", key_id, "-d", "cd key").seen
    assert "Token: HRKU-" in heroku("authorizations:rotate", key_id).seen
    assert "revoked authorization from cd key" in heroku("authorizations:revoke", key_id).seen
    assert key_id not in heroku("authorizations").stdout
