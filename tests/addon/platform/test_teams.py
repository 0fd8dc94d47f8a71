"""Teams: created, renamed, deleted; their members, apps, invoices and budgets."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from addon.platform import teams
from addon.platform.accounts import (
    InvalidEmail,
    UserNotFound,
    create_account,
    find_account,
    get_account,
)
from addon.platform.models import Account, App, Collaborator, Team, TeamMember, TeamRole
from addon.platform.teams import Membership
from billing.models import Customer, Subscription
from tests.addon.platform.helpers import Api, api_of, new_app

PERMISSIONS = ["deploy", "manage", "operate", "view"]


@pytest.fixture
def acme(account: Account) -> Membership:
    """A team of which `account` is the admin."""
    return teams.create_team("acme", account, uuid4())


def join(team: Membership, email: str, role: str) -> Api:
    person = create_account(email)
    TeamMember.objects.create(team=team.team, account=person, role=role)
    return api_of(person)


@pytest.fixture
def member(acme: Membership) -> Api:
    return join(acme, "member@example.com", TeamRole.MEMBER)


@pytest.fixture
def viewer(acme: Membership) -> Api:
    return join(acme, "viewer@example.com", TeamRole.VIEWER)


@pytest.fixture
def site(acme: Membership) -> App:
    """An app of the team."""
    return new_app(acme.team.account, "site")


@pytest.fixture
def guest(site: App) -> Api:
    """A collaborator of the team's app who is no member."""
    person = create_account("guest@example.com")
    Collaborator.objects.create(app=site, account=person)
    return api_of(person)


def test_whoever_creates_a_team_is_its_admin(api: Api, account: Account) -> None:
    answer = api.post("/teams", {"name": "acme"})
    assert answer.status_code == 201
    team = answer.json()
    assert (team["name"], team["role"], team["type"]) == ("acme", "admin", "team")
    for identity in ("acme", team["id"]):
        assert api.get(f"/teams/{identity}").json() == team
    assert api.get("/teams").json() == [team]
    (row,) = api.get("/teams/acme/members").json()
    assert (row["email"], row["role"]) == (account.email, "admin")
    assert row["user"] == {"email": account.email, "id": str(account.id), "name": account.name}


def test_a_team_that_is_created_again_by_the_same_request_is_the_same(api: Api) -> None:
    sent = {"Request-Id": str(uuid4())}
    first, second = (api.call("POST", "/teams", {"name": "acme"}, **sent) for _ in range(2))
    assert first.json() == second.json()
    assert api.post("/teams", {"name": "acme"}).status_code == 422


@pytest.mark.django_db(transaction=True)
def test_a_team_that_is_created_twice_at_once_by_the_same_request_is_one(api: Api) -> None:
    sent, start = {"Request-Id": str(uuid4())}, Barrier(4)

    def create(_: int) -> Any:
        start.wait(10)
        answer = api.call("POST", "/teams", {"name": "acme"}, **sent)
        connection.close()
        return answer

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(create, range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    "name", ["", "ab", "Acme", "acme-", "1acme", "a" * 31, "a_b", "apps", "permissions", None, 7]
)
def test_a_name_is_refused_with_the_rule(api: Api, acme: Membership, name: object) -> None:
    answer = api.post("/teams", {"name": name})
    assert answer.status_code == 422
    assert "name must" in answer.json()["message"]
    if name is not None:
        changed = api.patch("/teams/acme", {"name": name})
        assert changed.status_code == 422
        assert "name must" in changed.json()["message"]


def test_a_team_is_renamed_and_its_apps_with_it(api: Api, acme: Membership, site: App) -> None:
    answer = api.patch("/teams/acme", {"name": "umbrella"})
    assert answer.status_code == 200
    assert answer.json()["id"] == str(acme.team.id)
    assert api.get("/teams/acme").status_code == 404
    app = api.get("/apps/site").json()
    assert app["team"] == app["organization"] == {"id": str(acme.team.id), "name": "umbrella"}
    assert app["owner"]["email"] == "umbrella@herokumanager.com"
    assert api.post("/teams", {"name": "umbrella"}).status_code == 422
    assert api.post("/teams", {"name": "acme"}).status_code == 201


def test_there_is_no_default_team(api: Api, acme: Membership) -> None:
    refused = api.patch("/teams/acme", {"default": True})
    assert refused.status_code == 422
    assert "default must" in refused.json()["message"]
    assert api.patch("/teams/acme", {"default": False}).json()["name"] == "acme"


def test_a_team_with_apps_stays(api: Api, acme: Membership, site: App) -> None:
    refused = api.delete("/teams/acme")
    assert refused.status_code == 422
    assert "has the apps site. Destroy them first" in refused.json()["message"]
    assert api.delete("/apps/site").status_code == 200
    assert api.delete("/teams/acme").json()["name"] == "acme"
    assert api.get("/teams").json() == []
    assert api.get("/teams/acme").json()["resource"] == "team"
    assert api.post("/teams", {"name": "acme"}).status_code == 201


def test_what_is_in_the_way_of_a_deletion_is_named_up_to_five(api: Api, acme: Membership) -> None:
    for number in range(6):
        new_app(acme.team.account, f"site-{number}")
    message = api.delete("/teams/acme").json()["message"]
    assert "site-0, site-1, site-2, site-3, site-4 and others" in message


@pytest.mark.parametrize("path", ["", "/members", "/apps", "/addons", "/usage", "/features"])
def test_a_team_is_not_found_by_a_stranger(stranger: Api, acme: Membership, path: str) -> None:
    for identity in ("acme", acme.team.id, "acme@herokumanager.com", acme.team.account_id, "%00"):
        answer = stranger.get(f"/teams/{identity}{path}")
        assert answer.status_code == 404
        assert answer.json()["resource"] == "team"
    assert stranger.get("/teams").json() == []


def test_an_admin_adds_members_and_changes_their_roles(api: Api, acme: Membership) -> None:
    create_account("new@example.com", "New")
    path = "/teams/acme/members"
    added = api.call("PUT", path, {"email": "new@example.com", "role": "viewer"})
    assert added.status_code == 201
    assert (added.json()["role"], added.json()["user"]["name"]) == ("viewer", "New")
    for method, role in (("PUT", "member"), ("PATCH", "admin")):
        changed = api.call(method, path, {"email": "NEW@example.com", "role": role})
        assert changed.json()["id"] == added.json()["id"]
        assert changed.json()["role"] == role
    twice = api.post(path, {"email": "new@example.com", "role": "member"})
    assert twice.status_code == 422
    assert "a member of the team acme already" in twice.json()["message"]
    removed = api.delete(f"{path}/new@example.com")
    assert removed.json()["id"] == added.json()["id"]
    assert [row["email"] for row in api.get(path).json()] == ["dev@example.com"]


def test_a_new_member_of_a_request_that_is_sent_again_is_the_same(
    api: Api, acme: Membership
) -> None:
    create_account("new@example.com")
    body = {"email": "new@example.com", "role": "member"}
    sent = {"Request-Id": str(uuid4())}
    answers = [api.call("POST", "/teams/acme/members", body, **sent) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "dev@example.com"}, "role"),
        ({"email": "dev@example.com", "role": "owner"}, "role"),
        ({"email": "dev@example.com", "role": ["admin"]}, "role"),
        ({"role": "member"}, "email"),
        ({"email": "dev@example.com", "role": "admin", "federated": True}, "federated"),
    ],
)
def test_a_wrong_member_is_refused_by_the_name_of_the_field(
    api: Api, acme: Membership, body: dict[str, object], field: str
) -> None:
    for method in ("PUT", "POST", "PATCH"):
        answer = api.call(method, "/teams/acme/members", body)
        assert answer.status_code == 422
        assert answer.json()["message"].startswith(f"{field} must be")


def test_who_is_no_member_cannot_be_changed_or_removed(
    api: Api, acme: Membership, stranger: Api
) -> None:
    body = {"email": "stranger@example.com", "role": "admin"}
    changed = api.patch("/teams/acme/members", body)
    assert (changed.status_code, changed.json()["resource"]) == (404, "team_member")
    assert api.delete("/teams/acme/members/stranger@example.com").status_code == 404
    unknown = api.patch("/teams/acme/members", {**body, "email": "nobody@example.com"})
    assert (unknown.status_code, unknown.json()["resource"]) == (404, "user")


def test_the_last_admin_stays_an_admin(api: Api, acme: Membership, member: Api) -> None:
    for refused in (
        api.delete("/teams/acme/members/dev@example.com"),
        api.patch("/teams/acme/members", {"email": "dev@example.com", "role": "member"}),
    ):
        assert refused.status_code == 422
        assert "the last admin of the team acme" in refused.json()["message"]
    api.patch("/teams/acme/members", {"email": "member@example.com", "role": "admin"})
    assert api.delete("/teams/acme/members/dev@example.com").status_code == 200
    assert api.get("/teams/acme").status_code == 404
    assert member.get("/teams/acme").json()["role"] == "admin"


def test_a_member_may_leave_and_nobody_else_is_removed_by_one(
    acme: Membership, member: Api, viewer: Api
) -> None:
    assert member.delete("/teams/acme/members/viewer@example.com").status_code == 403
    assert viewer.delete("/teams/acme/members/viewer@example.com").status_code == 200
    assert viewer.get("/teams").json() == []


def test_leaving_a_team_ends_what_its_apps_gave_besides(
    api: Api, acme: Membership, member: Api, site: App
) -> None:
    body = {"user": "member@example.com", "permissions": ["manage"]}
    assert api.post("/teams/apps/site/collaborators", body).status_code == 201
    api.delete("/teams/acme/members/member@example.com")
    assert member.get("/apps/site").status_code == 404
    assert not Collaborator.objects.exists()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", {"name": "mine"}),
        ("DELETE", "", None),
        ("PUT", "/members", {"email": "member@example.com", "role": "admin"}),
        ("POST", "/members", {"email": "member@example.com", "role": "admin"}),
        ("PATCH", "/members", {"email": "member@example.com", "role": "admin"}),
        ("DELETE", "/members/dev@example.com", None),
        ("GET", "/invoices", None),
        ("GET", "/budgets", None),
    ],
)
def test_only_admins_manage_the_team(
    acme: Membership, member: Api, viewer: Api, guest: Api, method: str, path: str, body: Any
) -> None:
    for caller in (member, viewer, guest):
        answer = caller.call(method, f"/teams/acme{path}", body)
        assert answer.status_code == 403
        assert answer.json()["id"] == "forbidden"
        assert TeamMember.objects.count() == 3
    assert Team.objects.get().name == "acme"


def test_members_create_apps_that_are_the_teams(
    api: Api, acme: Membership, member: Api, viewer: Api
) -> None:
    created = member.post("/teams/apps", {"name": "site", "team": "acme", "region": "eu"})
    assert created.status_code == 201
    app = created.json()
    assert app["owner"]["email"] == "acme@herokumanager.com"
    assert app["team"]["name"] == "acme"
    assert (app["joined"], app["locked"], app["region"]["name"]) == (False, False, "eu")
    (release,) = api.get("/apps/site/releases").json()
    assert release["user"]["email"] == "member@example.com"
    for caller in (api, member, viewer):
        assert [row["name"] for row in caller.get("/teams/acme/apps").json()] == ["site"]
        assert caller.get("/teams/apps/site").json() == app
        assert [row["name"] for row in caller.get("/apps").json()] == ["site"]
        assert caller.get("/users/~/apps").json() == []
    refused = viewer.post("/teams/apps", {"name": "other", "team": "acme"})
    assert refused.status_code == 403
    assert "admin or member" in refused.json()["message"]


def test_an_app_of_a_request_that_is_sent_again_is_the_same(api: Api, acme: Membership) -> None:
    sent = {"Request-Id": str(uuid4())}
    answers = [api.call("POST", "/teams/apps", {"team": "acme"}, **sent) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert App.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "team"),
        ({"team": "acme", "space": "private"}, "space"),
        ({"team": "acme", "locked": True}, "locked"),
        ({"team": "acme", "personal": True}, "personal"),
        ({"team": "acme", "internal_routing": True}, "internal_routing"),
    ],
)
def test_what_an_app_cannot_have_is_refused_by_name(
    api: Api, acme: Membership, body: dict[str, object], field: str
) -> None:
    answer = api.post("/teams/apps", body)
    assert answer.status_code == 422
    assert answer.json()["message"].startswith(f"{field} must be")
    assert not App.objects.exists()


def test_an_app_of_a_team_that_is_not_ones_own_is_not_made(
    stranger: Api, guest: Api, acme: Membership
) -> None:
    answer = stranger.post("/teams/apps", {"team": "acme"})
    assert (answer.status_code, answer.json()["resource"]) == (404, "team")
    assert guest.post("/teams/apps", {"team": "acme"}).status_code == 403


def test_whoever_has_access_to_a_teams_app_is_listed_with_permissions(
    api: Api, site: App, member: Api, viewer: Api, guest: Api
) -> None:
    for path in ("/apps/site/collaborators", "/teams/apps/site/collaborators"):
        rows = api.get(path).json()
        assert {
            row["user"]["email"]: (row["role"], [each["name"] for each in row["permissions"]])
            for row in rows
        } == {
            "acme@herokumanager.com": ("owner", PERMISSIONS),
            "dev@example.com": ("admin", PERMISSIONS),
            "member@example.com": ("member", ["deploy", "operate", "view"]),
            "viewer@example.com": ("viewer", ["view"]),
            "guest@example.com": ("collaborator", ["deploy", "view"]),
        }
        assert all(each["description"] for row in rows for each in row["permissions"])


def test_permissions_of_a_collaborator_are_chosen_and_changed(
    api: Api, site: App, guest: Api
) -> None:
    path = "/teams/apps/site/collaborators/guest@example.com"
    assert guest.get("/apps/site/config-vars").status_code == 200
    changed = api.patch(path, {"permissions": ["operate"]})
    assert [each["name"] for each in changed.json()["permissions"]] == ["operate", "view"]
    assert api.get(path).json() == changed.json()
    assert guest.get("/apps/site/config-vars").status_code == 403
    assert api.delete(path).json()["role"] == "collaborator"
    assert guest.get("/apps/site").status_code == 404
    body = {"user": "guest@example.com", "permissions": ["view", "deploy"]}
    added = api.post("/teams/apps/site/collaborators", body)
    assert added.status_code == 201
    assert [each["name"] for each in added.json()["permissions"]] == ["deploy", "view"]
    assert guest.get("/teams/apps/site").json()["joined"] is True


@pytest.mark.parametrize("permissions", [None, [], ["fly"], "view", [7], {"name": "view"}])
def test_unknown_permissions_are_refused_with_those_that_there_are(
    api: Api, guest: Api, permissions: object
) -> None:
    path = "/teams/apps/site/collaborators/guest@example.com"
    answer = api.patch(path, {"permissions": permissions})
    assert answer.status_code == 422
    assert "view, deploy, operate, manage" in answer.json()["message"]


def test_nobody_gives_a_permission_away_that_he_has_not(api: Api, site: App, guest: Api) -> None:
    path = "/teams/apps/site/collaborators"
    api.patch(f"{path}/guest@example.com", {"permissions": ["manage"]})
    create_account("third@example.com")
    for refused in (
        guest.patch(f"{path}/guest@example.com", {"permissions": ["operate"]}),
        guest.post(path, {"user": "third@example.com", "permissions": ["operate", "manage"]}),
    ):
        assert refused.status_code == 403
        assert "permission operate" in refused.json()["message"]
    assert Collaborator.objects.get().permissions == ["manage", "view"]
    body = {"user": "third@example.com", "permissions": ["manage"]}
    assert guest.post(path, body).status_code == 201


def test_what_a_member_has_by_the_team_is_not_taken_at_the_app(
    api: Api, site: App, member: Api
) -> None:
    path = "/apps/site/collaborators/member@example.com"
    refused = api.delete(path)
    assert refused.status_code == 422
    assert "heroku members:remove member@example.com --team acme" in refused.json()["message"]
    changed = api.patch(f"/teams{path}", {"permissions": ["view"]})
    assert changed.status_code == 422
    owner = api.delete("/apps/site/collaborators/acme@herokumanager.com")
    assert "the owner" in owner.json()["message"]


def test_a_collaborator_sees_of_the_team_what_its_app_needs(
    acme: Membership, site: App, guest: Api
) -> None:
    new_app(acme.team.account, "secret")
    assert guest.get("/teams").json()[0]["role"] == "collaborator"
    assert [row["name"] for row in guest.get("/teams/acme/apps").json()] == ["site"]
    assert guest.get("/teams/acme/members").status_code == 403  # which `heroku access` expects
    (feature,) = guest.get("/teams/acme/features").json()
    assert (feature["name"], feature["enabled"]) == ("org-access-controls", True)
    assert guest.get("/users/~/apps").json() == []
    assert [row["name"] for row in guest.get("/apps").json()] == ["site"]
    site.destroyed_at = timezone.now()
    site.save()
    assert guest.get("/teams").json() == []


def test_the_permissions_that_there_are_are_listed(api: Api) -> None:
    assert [row["name"] for row in api.get("/teams/permissions").json()] == PERMISSIONS


def test_nobody_logs_in_as_a_team(acme: Membership) -> None:
    email = acme.team.account.email
    assert email == "acme@herokumanager.com"
    assert find_account(email) is None
    with pytest.raises(UserNotFound):
        get_account(str(acme.team.account_id))
    with pytest.raises(InvalidEmail, match="could only be a team"):
        create_account("boss@HerokuManager.com")


@pytest.mark.usefixtures("provider")
def test_the_team_pays_and_its_first_admin_is_written_to(
    api: Api, acme: Membership, site: App, member: Api
) -> None:
    assert member.add("site").status_code == 201
    customer = Customer.objects.get()
    assert customer.id == acme.team.account_id
    assert (customer.name, customer.email) == ("acme", "dev@example.com")
    api.patch("/teams/acme/members", {"email": "member@example.com", "role": "admin"})
    api.delete("/teams/acme/members/dev@example.com")
    member.patch("/teams/acme", {"name": "umbrella"})
    customer.refresh_from_db()
    assert (customer.name, customer.email) == ("umbrella", "member@example.com")


@pytest.mark.usefixtures("provider")
def test_a_member_changes_the_plan_and_the_team_goes_on_paying(
    acme: Membership, site: App, member: Api, viewer: Api, guest: Api
) -> None:
    path = f"/apps/site/addons/{member.add('site').json()['name']}"
    body = {"plan": "heroku-inference:dedicated"}
    for other in (viewer, guest):
        assert other.patch(path, body).status_code == 403
    changed = member.patch(path, body)
    assert (changed.status_code, changed.json()["plan"]["name"]) == (200, body["plan"])
    paid = Subscription.objects.get(end_at=None)
    assert (paid.customer_id, paid.plan.name) == (acme.team.account_id, body["plan"])
    newest = member.get("/apps/site/releases").json()[-1]
    assert newest["user"]["email"] == "member@example.com"
    assert newest["description"].startswith("Change plan of ")


@pytest.mark.usefixtures("provider")
def test_a_teams_addons_usage_and_invoices_are_its_own(
    api: Api, acme: Membership, site: App, shop: App, member: Api, viewer: Api
) -> None:
    mine = api.add("shop").json()
    addon = member.add("site").json()
    for caller in (api, member, viewer):
        assert [row["id"] for row in caller.get("/teams/acme/addons").json()] == [addon["id"]]
        assert caller.get("/teams/acme/apps/site/usage").json()["id"] == str(site.id)
        assert caller.get("/teams/acme/usage").json() == {
            "id": str(acme.team.id), "name": "acme", "apps": [],
        }  # fmt: skip
    own = api.get("/teams/dev@example.com/addons").json()
    assert [row["id"] for row in own] == [mine["id"]]
    assert api.get("/teams/acme/apps/shop/usage").json()["resource"] == "app"
    (invoice,) = api.get("/teams/acme/invoices").json()
    assert api.get(f"/teams/acme/invoices/{invoice['id']}").json()["total"] == invoice["total"]
    assert api.get(f"/account/invoices/{invoice['id']}").status_code == 404
    for path in ("lines", "export"):
        assert viewer.get(f"/teams/acme/invoices/{invoice['id']}/{path}").status_code == 403
    assert api.get(f"/teams/acme/invoices/{invoice['id']}/lines").json() == []


@pytest.mark.usefixtures("provider")
def test_a_teams_budgets_are_set_by_its_admins(
    api: Api, acme: Membership, site: App, shop: App, member: Api
) -> None:
    member.add("site")
    body = {"scope": "app", "scope_id": "site", "limit_microunits": 1_000_000}
    budget = api.post("/teams/acme/budgets", body).json()
    path = f"/teams/acme/budgets/{budget['id']}"
    assert api.get(path).json()["scope_id"] == "site"
    assert api.get("/account/budgets").json() == []
    assert api.post("/teams/acme/budgets", {**body, "scope_id": "shop"}).status_code == 404
    assert member.get(path).status_code == 403
    assert api.patch(path, {"limit_microunits": 2_000_000}).json()["limit_microunits"] == 2_000_000
    assert api.delete(path).status_code == 200
