"""One account can neither see nor change what belongs to another: every route, every method.

`NEEDED` says what each takes. A route that is added fails until it is in there, and so does one
whose answer tells, or whose refusal changes, something that the caller has no part in.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

import pytest
from django.apps import apps as django_apps
from django.utils import timezone

from addon.platform import rate_limits, teams, urls
from addon.platform.access import ALL, Permission
from addon.platform.accounts import create_account
from addon.platform.authorizations import create_authorization
from addon.platform.models import (
    Account,
    Addon,
    Collaborator,
    Notification,
    TeamMember,
    TeamRole,
    WebhookDelivery,
    WebhookEvent,
)
from tests.addon.platform.helpers import Api, api_of, new_app

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Need(StrEnum):
    """What a caller must have for a route."""

    NOTHING = auto()  # it has nothing that is anybody's
    SELF = auto()  # it is about the caller's own, and cannot name another's
    OWNER = auto()  # of a row of one account, which nobody else ever finds
    VIEW = auto()  # of the app, as the next three
    DEPLOY = auto()
    OPERATE = auto()
    MANAGE = auto()
    DETACH = auto()  # to deploy the attachment's app, or to operate the add-on's
    PARTNER = auto()  # the provider's token; who may see the add-on is told that
    PARTNER_OF_ATTACHMENT = auto()  # likewise who may see the attachment
    SERVICE = auto()  # the id and password of the add-on service
    SHARE = auto()  # to operate the add-on's app; who only uses it knows that it is there
    USE = auto()  # of an add-on: to see its app, or an app that it is attached to
    PART = auto()  # in the team: to be a member, or to collaborate on one of its apps
    MEMBER = auto()
    BUILDER = auto()  # a member or an admin
    ADMIN = auto()


@dataclass(frozen=True, kw_only=True)
class Call:
    """A `body` may name what a path does, as {app}."""

    need: Need
    body: Mapping[str, Any] | None = None
    is_look_up: bool = False  # a POST that changes nothing
    has_values: bool = False  # of config vars


def needs(need: Need, **more: Any) -> Call:
    return Call(need=need, **more)


BUDGET = {"limit_microunits": 5}
ORDER = {"plan": "heroku-inference:standard"}
CONFIG = {"config": [{"name": "INFERENCE_KEY", "value": "theirs"}]}
THEIR_WEBHOOK = {
    "include": ["api:app"], "level": "notify", "url": "https://example.com/theirs",
}  # fmt: skip
ROLE = {"email": "{collaborator}", "role": "admin"}

OF_A_PAYER = {
    ("GET", "budgets"): None,
    ("POST", "budgets"): {"scope": "app", "scope_id": "{app}", **BUDGET},
    ("GET", "budgets/<str:budget>"): None,
    ("PATCH", "budgets/<str:budget>"): BUDGET,
    ("DELETE", "budgets/<str:budget>"): None,
    ("GET", "invoices"): None,
    ("GET", "invoices/<str:invoice>.csv"): None,
    ("GET", "invoices/<str:invoice>.pdf"): None,
    ("GET", "invoices/<str:invoice>"): None,
    ("GET", "invoices/<str:invoice>/export"): None,
    ("GET", "invoices/<str:invoice>/lines"): None,
    ("GET", "invoices/<str:invoice>/lines/<str:line>/events"): None,
    ("GET", "invoices/<str:invoice>/lines/<str:line>/events.csv"): None,
}
LISTS_OF_A_PAYER = {("GET", "budgets"), ("GET", "invoices")}

NEEDED: dict[tuple[str, str], Call] = {
    **{
        (method, f"account/{path}"): Call(
            need=Need.SELF if (method, path) in LISTS_OF_A_PAYER else Need.OWNER, body=body
        )
        for (method, path), body in OF_A_PAYER.items()
    },
    **{
        (method, f"teams/<str:team>/{path}"): Call(need=Need.ADMIN, body=body)
        for (method, path), body in OF_A_PAYER.items()
    },
    ("GET", "account"): needs(Need.SELF),
    ("PATCH", "account"): needs(Need.SELF),
    ("GET", "account/rate-limits"): needs(Need.SELF),
    ("POST", "actions/addon-attachments/resolve"): needs(
        Need.VIEW, body={"addon_attachment": "{attachment}"}, is_look_up=True
    ),
    ("POST", "actions/addons/resolve"): needs(Need.USE, body={"addon": "{addon}"}, is_look_up=True),
    ("GET", "addon-attachments"): needs(Need.SELF),
    ("POST", "addon-attachments"): needs(Need.SHARE, body={"addon": "{addon}", "app": "{own_app}"}),
    ("GET", "addon-attachments/<str:attachment>"): needs(Need.VIEW),
    ("DELETE", "addon-attachments/<str:attachment>"): needs(Need.DETACH),
    ("PATCH", "addon-attachments/<str:attachment>/config"): needs(
        Need.PARTNER_OF_ATTACHMENT, body=CONFIG, has_values=True
    ),
    ("GET", "addon-services"): needs(Need.NOTHING),
    ("GET", "addon-services/<str:service>"): needs(Need.NOTHING),
    ("GET", "addon-services/<str:service>/plans"): needs(Need.NOTHING),
    ("GET", "addon-services/<str:service>/plans/<str:plan>"): needs(Need.NOTHING),
    ("GET", "addons"): needs(Need.SELF),
    ("GET", "addons/<str:addon>"): needs(Need.USE),
    ("POST", "addons/<str:addon>/actions/rotate-credentials"): needs(Need.DEPLOY),
    ("POST", "addons/<str:addon>/actions/deprovision"): needs(Need.PARTNER),
    ("POST", "addons/<str:addon>/actions/provision"): needs(Need.PARTNER),
    ("GET", "addons/<str:addon>/addon-attachments"): needs(Need.USE),
    ("GET", "addons/<str:addon>/config"): needs(Need.DEPLOY, has_values=True),
    ("PATCH", "addons/<str:addon>/config"): needs(Need.PARTNER, body=CONFIG, has_values=True),
    ("GET", "addons/<str:addon>/config/<str:namespace>"): needs(Need.USE, has_values=True),
    ("GET", "addons/<str:addon>/webhook-deliveries"): needs(Need.PARTNER),
    ("GET", "addons/<str:addon>/webhook-deliveries/<str:delivery>"): needs(Need.PARTNER),
    ("GET", "addons/<str:addon>/webhook-events"): needs(Need.PARTNER),
    ("GET", "addons/<str:addon>/webhook-events/<str:event>"): needs(Need.PARTNER),
    ("GET", "addons/<str:addon>/webhooks"): needs(Need.PARTNER),
    ("POST", "addons/<str:addon>/webhooks"): needs(Need.PARTNER, body=THEIR_WEBHOOK),
    ("GET", "addons/<str:addon>/webhooks/<str:webhook>"): needs(Need.PARTNER),
    ("PATCH", "addons/<str:addon>/webhooks/<str:webhook>"): needs(
        Need.PARTNER, body={"url": "https://example.com/theirs"}
    ),
    ("DELETE", "addons/<str:addon>/webhooks/<str:webhook>"): needs(Need.PARTNER),
    ("GET", "apps"): needs(Need.SELF),
    ("POST", "apps"): needs(Need.SELF),
    ("GET", "apps/<str:app>"): needs(Need.VIEW),
    ("PATCH", "apps/<str:app>"): needs(Need.MANAGE, body={"name": "taken-over"}),
    ("DELETE", "apps/<str:app>"): needs(Need.MANAGE),
    ("GET", "apps/<str:app>/addon-attachments"): needs(Need.VIEW),
    ("GET", "apps/<str:app>/addon-attachments/<str:attachment>"): needs(Need.VIEW),
    ("GET", "apps/<str:app>/addons"): needs(Need.VIEW),
    ("POST", "apps/<str:app>/addons"): needs(Need.OPERATE, body=ORDER),
    ("GET", "apps/<str:app>/addons/<str:addon>"): needs(Need.VIEW),
    ("PATCH", "apps/<str:app>/addons/<str:addon>"): needs(Need.OPERATE, body=ORDER),
    ("DELETE", "apps/<str:app>/addons/<str:addon>"): needs(Need.OPERATE),
    ("GET", "apps/<str:app>/addons/<str:addon>/sso"): needs(Need.DEPLOY),
    ("GET", "apps/<str:app>/buildpack-installations"): needs(Need.VIEW),
    ("GET", "apps/<str:app>/collaborators"): needs(Need.VIEW),
    ("POST", "apps/<str:app>/collaborators"): needs(Need.MANAGE, body={"user": "{caller}"}),
    ("GET", "apps/<str:app>/collaborators/<str:collaborator>"): needs(Need.VIEW),
    ("DELETE", "apps/<str:app>/collaborators/<str:collaborator>"): needs(Need.MANAGE),
    ("GET", "apps/<str:app>/config-vars"): needs(Need.DEPLOY, has_values=True),
    ("PATCH", "apps/<str:app>/config-vars"): needs(
        Need.DEPLOY, body={"PASSWORD": "mine"}, has_values=True
    ),
    ("GET", "apps/<str:app>/dynos"): needs(Need.VIEW),
    ("GET", "apps/<str:app>/pipeline-couplings"): needs(Need.VIEW),
    ("GET", "apps/<str:app>/releases"): needs(Need.VIEW),
    ("POST", "apps/<str:app>/releases"): needs(Need.DEPLOY, body={"release": "{release}"}),
    ("GET", "apps/<str:app>/releases/<str:release>"): needs(Need.VIEW),
    ("GET", "apps/<str:app>/releases/<str:release>/config-vars"): needs(
        Need.DEPLOY, has_values=True
    ),
    ("GET", "apps/<str:app>/usage"): needs(Need.VIEW),
    ("GET", "apps/<str:app>/webhook-deliveries"): needs(Need.DEPLOY),
    ("GET", "apps/<str:app>/webhook-deliveries/<str:delivery>"): needs(Need.DEPLOY),
    ("GET", "apps/<str:app>/webhook-events"): needs(Need.DEPLOY),
    ("GET", "apps/<str:app>/webhook-events/<str:event>"): needs(Need.DEPLOY),
    ("GET", "apps/<str:app>/webhooks"): needs(Need.DEPLOY),
    ("POST", "apps/<str:app>/webhooks"): needs(Need.DEPLOY, body=THEIR_WEBHOOK),
    ("GET", "apps/<str:app>/webhooks/<str:webhook>"): needs(Need.DEPLOY),
    ("PATCH", "apps/<str:app>/webhooks/<str:webhook>"): needs(
        Need.DEPLOY, body={"url": "https://example.com/theirs"}
    ),
    ("DELETE", "apps/<str:app>/webhooks/<str:webhook>"): needs(Need.DEPLOY),
    ("GET", "invoice-signing-key"): needs(Need.NOTHING),
    ("GET", "oauth/authorizations"): needs(Need.SELF),
    ("POST", "oauth/authorizations"): needs(Need.SELF),
    ("GET", "oauth/authorizations/<str:authorization>"): needs(Need.OWNER),
    ("PATCH", "oauth/authorizations/<str:authorization>"): needs(
        Need.OWNER, body={"description": "theirs"}
    ),
    ("DELETE", "oauth/authorizations/<str:authorization>"): needs(Need.OWNER),
    ("POST", "oauth/authorizations/<str:authorization>/actions/regenerate-tokens"): needs(
        Need.OWNER
    ),
    ("DELETE", "oauth/sessions/~"): needs(Need.SELF),
    ("POST", "oauth/token"): needs(Need.NOTHING),
    ("GET", "openapi/platform"): needs(Need.NOTHING),
    ("GET", "openapi/platform.json"): needs(Need.NOTHING),
    ("GET", "regions"): needs(Need.NOTHING),
    ("GET", "schema"): needs(Need.NOTHING),
    ("GET", "teams"): needs(Need.SELF),
    ("POST", "teams"): needs(Need.SELF),
    ("POST", "teams/apps"): needs(Need.BUILDER, body={"team": "{team}", "name": "theirs"}),
    ("GET", "teams/apps/<str:app>"): needs(Need.VIEW),
    ("GET", "teams/apps/<str:app>/collaborators"): needs(Need.VIEW),
    ("POST", "teams/apps/<str:app>/collaborators"): needs(
        Need.MANAGE, body={"user": "{caller}", "permissions": ["manage"]}
    ),
    ("GET", "teams/apps/<str:app>/collaborators/<str:collaborator>"): needs(Need.VIEW),
    ("PATCH", "teams/apps/<str:app>/collaborators/<str:collaborator>"): needs(
        Need.MANAGE, body={"permissions": ["manage"]}
    ),
    ("DELETE", "teams/apps/<str:app>/collaborators/<str:collaborator>"): needs(Need.MANAGE),
    ("GET", "teams/permissions"): needs(Need.NOTHING),
    ("GET", "teams/<str:team>"): needs(Need.PART),
    ("PATCH", "teams/<str:team>"): needs(Need.ADMIN, body={"name": "theirs"}),
    ("DELETE", "teams/<str:team>"): needs(Need.ADMIN),
    ("GET", "teams/<str:team>/addons"): needs(Need.PART),
    ("GET", "teams/<str:team>/apps"): needs(Need.PART),
    ("GET", "teams/<str:team>/apps/<str:app>/usage"): needs(Need.VIEW),
    ("GET", "teams/<str:team>/features"): needs(Need.PART),
    ("GET", "teams/<str:team>/members"): needs(Need.MEMBER),
    ("POST", "teams/<str:team>/members"): needs(Need.ADMIN, body=ROLE),
    ("PUT", "teams/<str:team>/members"): needs(Need.ADMIN, body=ROLE),
    ("PATCH", "teams/<str:team>/members"): needs(Need.ADMIN, body=ROLE),
    ("DELETE", "teams/<str:team>/members/<str:member>"): needs(Need.ADMIN),
    ("GET", "teams/<str:team>/usage"): needs(Need.PART),
    ("GET", "user/notifications"): needs(Need.SELF),
    ("PATCH", "user/notifications/<str:notification>"): needs(Need.OWNER, body={"read": True}),
    ("GET", "users/~"): needs(Need.SELF),
    ("PATCH", "users/~"): needs(Need.SELF),
    ("GET", "users/~/apps"): needs(Need.SELF),
    ("GET", "vendor/resources/<str:addon>/oauth-grant"): needs(Need.SERVICE),
}


@dataclass(frozen=True, kw_only=True)
class Caller:
    """How somebody stands to the app `vault` of the team `acme`."""

    permissions: frozenset[Permission] = frozenset()
    role: TeamRole | None = None
    has_attached: bool = False  # vault's add-on, to an app of its own
    may_know: frozenset[str] = frozenset()  # groups of marks

    def refusal(self, need: Need) -> int | None:
        """The status of a refusal; None where there is none."""
        has_part = self.role is not None or bool(self.permissions)
        match need:
            case Need.NOTHING | Need.SELF:
                return None
            case Need.OWNER:
                return 404
            case Need.USE:
                return None if self.permissions or self.has_attached else 404
            case Need.PARTNER:
                return 403 if self.permissions or self.has_attached else 404
            case Need.PARTNER_OF_ATTACHMENT:
                return 403 if self.permissions else 404
            case Need.SERVICE:
                return 401
            case Need.DETACH:
                if self.permissions & {DEPLOY, OPERATE}:
                    return None
                return 403 if self.permissions else 404
            case Need.SHARE:
                if OPERATE in self.permissions:
                    return None
                return 403 if self.permissions or self.has_attached else 404
            case Need.PART:
                return None if has_part else 404
            case Need.MEMBER | Need.BUILDER | Need.ADMIN:
                return (None if self.role in ROLES[need] else 403) if has_part else 404
            case _:
                if Permission(need.value) in self.permissions:
                    return None
                return 403 if self.permissions else 404


ROLES = {
    Need.MEMBER: frozenset(TeamRole),
    Need.BUILDER: {TeamRole.MEMBER, TeamRole.ADMIN},
    Need.ADMIN: {TeamRole.ADMIN},
}
SEEN = frozenset({"app", "addon", "attachment", "owner", "provider", "team"})
VIEW, DEPLOY, OPERATE = Permission.VIEW, Permission.DEPLOY, Permission.OPERATE

CALLERS = {
    "a stranger": Caller(),
    "a former collaborator": Caller(),
    "a former member": Caller(),
    "a neighbour": Caller(has_attached=True, may_know=frozenset({"app", "addon"})),
    "a viewer": Caller(
        permissions=frozenset({VIEW}), role=TeamRole.VIEWER, may_know=SEEN | {"cellar"}
    ),
    "a member": Caller(
        permissions=frozenset({VIEW, DEPLOY, OPERATE}),
        role=TeamRole.MEMBER,
        may_know=SEEN | {"values", "webhook", "cellar", "cellar's values"},
    ),
    "a collaborator": Caller(
        permissions=frozenset({VIEW, DEPLOY}), may_know=SEEN | {"values", "webhook"}
    ),
    "an operator": Caller(permissions=frozenset({VIEW, OPERATE}), may_know=SEEN),
}


@dataclass(frozen=True, kw_only=True)
class World:
    """`named` and `by_id` are what a path or a body calls the owner's things."""

    admin: Account
    apis: Mapping[str, Api]
    emails: Mapping[str, str]
    own_apps: Mapping[str, str]
    named: Mapping[str, str]
    by_id: Mapping[str, str]
    marks: Mapping[str, frozenset[str]] = field(repr=False)


@pytest.fixture
def world(provider: object) -> World:
    admin = create_account("the-boss@example.com", "The Boss")
    boss = api_of(admin)
    boss.post("/teams", {"name": "acme-7c1"})
    team = teams.get_membership(admin, "acme-7c1").team
    for name in ("vault-7c1", "cellar-7c1"):
        boss.post("/teams/apps", {"name": name, "team": "acme-7c1"})
        boss.patch(f"/apps/{name}/config-vars", {"PASSWORD": f"value-of-{name}"})
    webhook = {
        "include": ["api:release"], "level": "notify", "url": "https://example.com/hook-7c1",
        "secret": "hook-secret-7c1",
    }  # fmt: skip
    hook = boss.post("/apps/vault-7c1/webhooks", webhook).json()
    addon = boss.post("/apps/vault-7c1/addons", {**ORDER, "attachment": {"name": "VAULT"}}).json()
    apis: dict[str, Api] = {}
    emails: dict[str, str] = {}
    own_apps: dict[str, str] = {}
    for name in CALLERS:
        email = f"{name.replace(' ', '-').replace(chr(39), '')}@example.com"
        person = create_account(email)
        own = new_app(person, f"own-{len(apis)}")
        apis[name], emails[name], own_apps[name] = api_of(person), email, own.name
    _join(boss, emails)
    _attach(boss, addon["name"], apis["a neighbour"], emails, own_apps["a neighbour"])
    Addon.objects.update(provider_id="provider-id-7c1")
    keys = boss.config("vault-7c1")
    attachment = boss.get("/apps/vault-7c1/addon-attachments").json()[0]
    budget = boss.post("/teams/acme-7c1/budgets", {"scope": "account", **BUDGET}).json()
    invoice = boss.get("/teams/acme-7c1/invoices").json()[0]
    app = boss.get("/apps/vault-7c1").json()
    cellar = boss.get("/apps/cellar-7c1").json()
    release = boss.get("/apps/vault-7c1/releases/2").json()
    notification = Notification.objects.create(
        account=admin, title="secret-title-7c1", body="secret-body-7c1", created_at=timezone.now()
    )
    collaborator = boss.get("/apps/vault-7c1/collaborators/bystander@example.com").json()
    common = {
        "service": "heroku-inference", "plan": "heroku-inference:standard", "namespace": "x",
        "line": "1", "budget": budget["id"], "invoice": invoice["id"], "webhook": hook["id"],
        "delivery": str(WebhookDelivery.objects.all()[0].id),
        "event": str(WebhookEvent.objects.all()[0].id),
        "authorization": str(admin.authorizations.all()[0].id),
        "notification": str(notification.id),
        "attachment": attachment["id"],
    }  # fmt: skip
    return World(
        admin=admin,
        apis=apis,
        emails=emails,
        own_apps=own_apps,
        named=common
        | {
            "app": "vault-7c1",
            "addon": addon["name"],
            "team": "acme-7c1",
            "release": "2",
            "member": "the-boss@example.com",
            "collaborator": "bystander@example.com",
        },
        by_id=common
        | {
            "app": app["id"],
            "addon": addon["id"],
            "team": str(team.id),
            "release": release["id"],
            "member": str(admin.id),
            "collaborator": collaborator["id"],
        },
        marks={
            "app": frozenset({"vault-7c1", app["id"]}),
            "addon": frozenset({addon["name"], addon["id"]}),
            "attachment": frozenset({attachment["id"]}),
            "owner": frozenset({admin.email, str(admin.id), str(team.account_id)}),
            "team": frozenset({"acme-7c1", str(team.id)}),
            "values": frozenset({"value-of-vault-7c1", keys["VAULT_KEY"]}),
            "webhook": frozenset({"hook-7c1", hook["id"]}),
            "secret": frozenset({"hook-secret-7c1", "secret-title-7c1", "secret-body-7c1"}),
            "provider": frozenset({"provider-id-7c1"}),
            "money": frozenset({budget["id"], invoice["id"]}),
            "cellar": frozenset({"cellar-7c1", cellar["id"]}),
            "cellar's values": frozenset({"value-of-cellar-7c1"}),
        },
    )


def _join(boss: Api, emails: Mapping[str, str]) -> None:
    for name, role in (
        ("a viewer", "viewer"),
        ("a member", "member"),
        ("a former member", "member"),
    ):
        boss.call("PUT", "/teams/acme-7c1/members", {"email": emails[name], "role": role})
    boss.delete(f"/teams/acme-7c1/members/{emails['a former member']}")
    path = "/teams/apps/vault-7c1/collaborators"
    for name in ("a collaborator", "a former collaborator"):
        boss.post(path, {"user": emails[name]})
    boss.delete(f"{path}/{emails['a former collaborator']}")
    boss.post(path, {"user": emails["an operator"], "permissions": ["operate"]})
    # One of whom no caller is: a collaborator may remove itself.
    create_account("bystander@example.com")
    boss.post(path, {"user": "bystander@example.com"})


def _attach(boss: Api, addon: str, neighbour: Api, emails: Mapping[str, str], app: str) -> None:
    """An admin of vault who is let into the neighbour's app for that, and then leaves it."""
    neighbour.post(f"/apps/{app}/collaborators", {"user": "the-boss@example.com"})
    boss.post("/addon-attachments", {"addon": addon, "app": app, "name": "SHARED"})
    neighbour.delete(f"/apps/{app}/collaborators/the-boss@example.com")


def routes() -> Iterator[tuple[str, str]]:
    for pattern in urls.urlpatterns:
        view = pattern.callback.view_class  # type: ignore[attr-defined]
        for method in METHODS:
            if hasattr(view, method.lower()):
                yield method, str(pattern.pattern)


def test_every_route_says_what_it_takes() -> None:
    assert set(routes()) == set(NEEDED)


def fill(template: Any, names: Mapping[str, str]) -> Any:
    match template:
        case str():
            return template.format(**names) if "{" in template else template
        case dict():
            return {key: fill(value, names) for key, value in template.items()}
        case _:
            return template


def path_of(route: str, names: Mapping[str, str]) -> str:
    return f"/{fill(route.replace('<str:', '{').replace('>', '}'), names)}"


def rows() -> dict[str, list[dict[str, Any]]]:
    """Everything in the database that is anybody's."""
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values())
        for label in ("platform", "provider", "billing")
        for model in django_apps.get_app_config(label).get_models()
    }


def told(world: World, caller: Caller, asked: str, answer: Any) -> list[str]:
    """What the answer has that the caller neither may know nor said itself."""
    text = answer.content.decode("utf-8", "replace") + str(answer.headers)
    return [
        mark
        for group, marks in world.marks.items()
        if group not in caller.may_know
        for mark in marks
        if mark in text and mark not in asked
    ]


def calls(world: World, name: str, *, is_refused: bool) -> Iterator[tuple[str, str, Any, int]]:
    """Method, path, body and the status of the refusal, or 0; of what is allowed, what changes
    nothing."""
    for (method, route), call in NEEDED.items():
        refusal = CALLERS[name].refusal(call.need)
        if (refusal is not None) != is_refused:
            continue
        if not is_refused and method != "GET" and not call.is_look_up:
            continue
        for names in (world.named, world.by_id):
            known = {**names, "own_app": world.own_apps[name], "caller": world.emails[name]}
            yield method, path_of(route, known), fill(call.body, known), refusal or 0


@pytest.mark.parametrize("name", CALLERS)
def test_what_needs_more_is_refused_and_changes_nothing_to(world: World, name: str) -> None:
    before, found = rows(), []
    for method, path, body, refusal in calls(world, name, is_refused=True):
        answer = world.apis[name].call(method, path, body)
        what = f"{method} {path}: {answer.status_code} {answer.content[:300]!r}"
        if answer.status_code != refusal:
            found.append(f"{what} instead of {refusal}")
        asked = f"{path}{body}"
        found += [f"{what} tells {mark}" for mark in told(world, CALLERS[name], asked, answer)]
    assert not found, "\n".join(found)
    assert rows() == before


@pytest.mark.parametrize("name", CALLERS)
def test_what_is_allowed_tells_no_more_than_its_part_to(world: World, name: str) -> None:
    found = []
    for method, path, body, _ in calls(world, name, is_refused=False):
        answer = world.apis[name].call(method, path, body)
        what = f"{method} {path}: {answer.status_code} {answer.content[:300]!r}"
        if answer.status_code >= 400 and "pipeline" not in path:  # of which there are none
            found.append(f"{what} instead of an answer")
        asked = f"{path}{body}"
        found += [f"{what} tells {mark}" for mark in told(world, CALLERS[name], asked, answer)]
    assert not found, "\n".join(found)


def test_a_token_that_may_only_read_changes_nothing_and_shows_no_value(world: World) -> None:
    issued = create_authorization(world.admin, "reader")
    issued.authorization.scope = ["read"]
    issued.authorization.save()
    api = Api(token=issued.token)
    reader = Caller(
        permissions=ALL, may_know=frozenset(world.marks) - {"values", "cellar's values"}
    )
    known = {**world.named, "own_app": "vault-7c1", "caller": "a-stranger@example.com"}
    before, found = rows(), []
    for (method, route), call in NEEDED.items():
        path, body = path_of(route, known), fill(call.body, known)
        is_change = method != "GET" and not call.is_look_up
        if "invoices" in path or call.need == Need.NOTHING:
            continue  # looking at those draws drafts up, and these ask for no token
        answer = api.call(method, path, body)
        what = f"{method} {path}: {answer.status_code}"
        if (is_change or call.has_values) and answer.status_code not in {401, 403}:
            found.append(f"{what} instead of a refusal")
        found += [f"{what} tells {mark}" for mark in told(world, reader, f"{path}{body}", answer)]
    assert not found, "\n".join(found)
    assert rows() == before


def test_without_a_token_there_is_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "WRONG_TOKENS_PER_HOUR", 2 * len(NEEDED))
    for (method, route), call in NEEDED.items():
        if call.need == Need.NOTHING:
            continue
        answer = Api(token="").call(method, path_of(route, world.named), None)
        assert answer.status_code == 401, (method, route)
        assert not told(world, Caller(), route, answer)


def test_the_world_is_as_it_is_described(world: World) -> None:
    assert TeamMember.objects.count() == 3
    assert Collaborator.objects.count() == 3
    for name, caller in CALLERS.items():
        seen = world.apis[name].get("/apps/vault-7c1").status_code
        assert (seen == 200) == (VIEW in caller.permissions), name
    shared = world.apis["a neighbour"].config(world.own_apps["a neighbour"])
    assert "SHARED_KEY" in shared
