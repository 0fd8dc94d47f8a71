"""`access`, `members`, `teams` and the apps of teams, as two people see them."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.annex import Annex
from tests.e2e.cli import HerokuCli


@dataclass(frozen=True, kw_only=True)
class Names:
    """Of a run, for the Annex of the tests keeps what others made."""

    dev: str
    friend: str
    team: str
    app: str


@pytest.fixture
def names() -> Names:
    number = secrets.token_hex(4)
    return Names(
        dev=f"dev-{number}@example.com",
        friend=f"friend-{number}@example.com",
        team=f"acme-{number}",
        app=f"site-{number}",
    )


def person(annex: Annex, email: str, home: Path) -> HerokuCli:
    """An account, and the CLI with the line that making it printed."""
    printed = annex.manage("create_account", email).split()
    exports = dict(word.split("=", 1) for word in printed if "=" in word)
    home.mkdir()
    return HerokuCli(exports, home)


@pytest.fixture
def dev(annex: Annex, names: Names, tmp_path: Path) -> HerokuCli:
    return person(annex, names.dev, tmp_path / "dev")


@pytest.fixture
def friend(annex: Annex, names: Names, tmp_path: Path) -> HerokuCli:
    return person(annex, names.friend, tmp_path / "friend")


@pytest.fixture
def team(annex: Annex, names: Names, dev: HerokuCli) -> str:
    """A team whose admin is `dev`."""
    annex.manage("create_team", names.team, "--admin", names.dev)
    return names.team


def test_an_app_is_shared_with_a_collaborator(
    names: Names, dev: HerokuCli, friend: HerokuCli
) -> None:
    on_app = ("--app", names.app)
    dev("apps:create", names.app)
    unknown = dev.try_("access:add", "nobody@example.com", *on_app)
    assert "Couldn't find that user: nobody@example.com has no account here" in unknown.seen
    added = dev("access:add", names.friend, *on_app).seen
    assert f"Adding {names.friend} access to the app {names.app}... done" in added
    for cli in (dev, friend):
        listed = cli("access", *on_app).seen
        assert f"{names.dev} owner" in listed
        assert f"{names.friend} collaborator" in listed
    rows = json.loads(dev("access", *on_app, "--json").stdout)
    assert [row["role"] for row in rows] == ["owner", "collaborator"]
    assert "Collaborated Apps Name Email" in friend("apps").seen
    assert f"{names.app} {names.dev}" in friend("apps").seen
    refused = friend.try_("access:remove", names.dev, *on_app)
    assert f"You do not have the permission manage on the app {names.app}" in refused.seen
    update = dev.try_("access:update", names.friend, *on_app, "-p", "operate")
    assert "is not owned by a team" in update.seen
    assert "done" in dev("access:remove", names.friend, *on_app).seen
    assert "You have no apps" in friend("apps").seen


def test_a_team_owns_apps_that_its_members_share(
    names: Names, team: str, dev: HerokuCli, friend: HerokuCli
) -> None:
    of_team = ("--team", team)
    assert f"{team} admin" in dev("teams").seen
    assert f"There are no apps in team {team}" in dev("apps", *of_team).seen
    added = dev("members:add", names.friend, *of_team, "--role", "viewer").seen
    assert f"Adding {names.friend} to {team} as viewer... done" in added
    members = dev("members", *of_team).seen
    assert f"{names.dev} admin" in members
    assert f"{names.friend} viewer" in members
    assert f"{team} viewer" in friend("teams").seen
    refused = friend.try_("apps:create", names.app, *of_team)
    assert f"You must have the role admin or member in the team {team}" in refused.seen
    dev("members:set", names.friend, *of_team, "--role", "member")
    assert "done" in friend("apps:create", names.app, *of_team).seen
    assert f"Apps in team {team} {names.app}" in dev("apps", *of_team).seen
    assert names.app in dev("apps", "--all").seen
    assert "You have no apps" in dev("apps").seen
    assert f"{team}@herokumanager.com" in dev("apps:info", "--app", names.app).seen
    assert f"No usage found for team {team}" in dev("usage:addons", *of_team).seen
    last = dev.try_("members:remove", names.dev, *of_team)
    assert f"{names.dev} is the last admin of the team {team}" in last.seen
    assert "done" in dev("members:remove", names.friend, *of_team).seen
    assert "Couldn't find that team" in friend.try_("members", *of_team).seen


def test_permissions_on_a_teams_app_are_chosen(
    names: Names, team: str, dev: HerokuCli, friend: HerokuCli
) -> None:
    on_app = ("--app", names.app)
    dev("apps:create", names.app, "--team", team)
    missing = dev.try_("access:add", names.friend, *on_app)
    assert "Missing argument: permissions" in missing.seen
    added = dev("access:add", names.friend, *on_app, "--permissions", "deploy").seen
    assert "with deploy, view permissions... done" in added
    listed = dev("access", *on_app).seen
    assert f"{names.dev} admin deploy, manage, operate, view" in listed
    assert f"{names.friend} collaborator deploy, view" in listed
    assert "herokumanager" not in listed
    assert f"{names.friend} collaborator deploy, view" in friend("access", *on_app).seen
    assert "done" in dev("access:update", names.friend, *on_app, "-p", "operate").seen
    refused = friend.try_("config", *on_app)
    assert f"You do not have the permission deploy on the app {names.app}" in refused.seen
