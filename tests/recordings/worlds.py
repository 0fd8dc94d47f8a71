"""What was there before a recorded command: read off the answers that the command got.

An answer that came before the first change tells what exists: apps, add-ons, attachments, config
vars, releases. What no answer tells, and the command still presupposes, is in situations.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.recordings.recorded import Recording, Request

ACCOUNT = "dev@example.com"
ADDON = "inference-acute-10001"
SERVICE = "heroku-inference"


@dataclass(frozen=True, kw_only=True)
class AppFact:
    id: str
    name: str
    owner: str = ACCOUNT
    region: str = "us"


@dataclass(frozen=True, kw_only=True)
class AddonFact:
    id: str
    name: str
    app: str
    service: str = SERVICE
    plan: str = f"{SERVICE}:standard"
    state: str = "provisioned"


@dataclass(frozen=True, kw_only=True)
class AttachmentFact:
    id: str
    name: str
    addon: str
    app: str


MYAPP = AppFact(id="e7ada0a2-07c0-50c0-a09a-c6dc3773cee9", name="myapp")
OTHERAPP = AppFact(id="43c693c6-57f2-57f6-8f9d-3c08df6a9614", name="otherapp")
ADDON_ID = "86036ffc-893f-50a0-b1b4-32ed5c53526b"
SECOND_ADDON = AddonFact(
    id="5f0a280a-22b3-58d1-bd97-b9ae6b63f411", name="inference-flat-10002", app="myapp"
)
# What the stub called them; any other attachment gets an id of its own.
ATTACHMENT_IDS = {
    ("myapp", "EMBEDDING"): "f3abf1cc-c66e-5d0b-9bd3-4e81034df013",
    ("otherapp", "SHARED"): "b058e251-08b4-57b1-b299-352285eefba8",
}


@dataclass(kw_only=True)
class World:
    """Apps, add-ons and config vars by name, attachments by app and name."""

    apps: dict[str, AppFact] = field(default_factory=dict)
    addons: dict[str, AddonFact] = field(default_factory=dict)
    attachments: dict[tuple[str, str], AttachmentFact] = field(default_factory=dict)
    config: dict[str, dict[str, str]] = field(default_factory=dict)
    releases: dict[str, dict[int, Mapping[str, Any]]] = field(default_factory=dict)
    newest_release: dict[str, int] = field(default_factory=dict)
    collaborators: set[tuple[str, str]] = field(default_factory=set)
    webhooks: list[Mapping[str, Any]] = field(default_factory=list)
    notifications: list[Mapping[str, Any]] = field(default_factory=list)
    is_key_revoked: bool = False
    does_key_expire: bool = False
    is_rate_limited: bool = False
    is_database_away: bool = False
    is_inference_key_revoked: bool = False
    is_inference_used_up: bool = False
    refusal: str = ""  # what the provider answers to an order
    message: str = ""  # what the provider says of what it made
    has_password: bool = False
    other_accounts: set[str] = field(default_factory=set)
    authorizations: list[str] = field(default_factory=list)
    usage: Mapping[str, int] = field(default_factory=dict)

    def attach(self, addon: str, name: str, app: str) -> None:
        known = ATTACHMENT_IDS.get((app, name), "")
        fact = AttachmentFact(id=known, name=name, addon=addon, app=app)
        self.attachments.setdefault((app, name), fact)

    def add(self, addon: AddonFact, name: str = "EMBEDDING") -> None:
        """The add-on with its first attachment."""
        self.addons.setdefault(addon.name, addon)
        self.attach(addon.name, name, addon.app)

    def aliases(self, app: str) -> list[str]:
        """Longest first, so that the first that fits a config var owns it."""
        found = [name for owner, name in self.attachments if owner == app]
        return sorted(found, key=len, reverse=True)

    def app_named(self, identity: str) -> str:
        return next((app.name for app in self.apps.values() if app.id == identity), identity)


def read_world(recording: Recording) -> World:
    world = World(apps={app.name: app for app in (MYAPP, OTHERAPP)})
    for request in _before_the_first_change(recording.requests):
        for answer in _objects(request.answer):
            _note(world, answer)
        _note_route(world, request)
    _note_newest_releases(world, recording.requests)
    world.has_password = any(
        request.headers.get("authorization", "").startswith("Basic ")
        for request in recording.requests
    )
    _complete(world)
    return world


def _before_the_first_change(requests: Iterable[Request]) -> Iterator[Request]:
    for request in requests:
        if request.is_inference or request.status >= 300:
            continue
        if not request.is_write:
            yield request
            continue
        # What is removed was there.
        if request.method == "DELETE":
            yield request
        return


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _note(world: World, answer: Mapping[str, Any]) -> None:
    if {"addon", "app", "name"} <= answer.keys():
        addon, app = answer["addon"], answer["app"]["name"]
        known = AddonFact(id=addon["id"], name=addon["name"], app=addon["app"]["name"])
        world.addons.setdefault(addon["name"], known)
        world.attachments[app, answer["name"]] = AttachmentFact(
            id=answer["id"], name=answer["name"], addon=addon["name"], app=app
        )
    elif {"addon_service", "app", "plan", "state"} <= answer.keys():
        _note_addon(world, answer)
    elif {"build_stack", "owner"} <= answer.keys():
        fact = AppFact(
            id=answer["id"],
            name=answer["name"],
            owner=answer["owner"]["email"],
            region=answer["region"]["name"],
        )
        world.apps[fact.name] = fact
        if fact.owner != ACCOUNT:
            world.collaborators.add((fact.name, ACCOUNT))


def _note_addon(world: World, answer: Mapping[str, Any]) -> None:
    # What is being removed is still there; what the CLI waits for is not there yet.
    state = answer["state"]
    fact = AddonFact(
        id=answer["id"],
        name=answer["name"],
        app=answer["app"]["name"],
        service=answer["addon_service"]["name"],
        plan=answer["plan"].get("name", f"{SERVICE}:standard"),
        state="provisioned" if state == "deprovisioned" else state,
    )
    before = world.addons.get(fact.name)
    if before is None or before.plan != fact.plan:
        world.addons[fact.name] = fact
    for var in answer["config_vars"]:
        name, _, kind = var.rpartition("_")
        if kind == "KEY":
            world.attach(fact.name, name, fact.app)


def _note_route(world: World, request: Request) -> None:
    parts = request.path.strip("/").split("/")
    if request.method != "GET" or parts[0] not in {"apps", "user"} or len(parts) < 2:
        return
    app = world.app_named(parts[1])
    match parts[2:]:
        case ["config-vars"] if isinstance(request.answer, dict):
            world.config[app] = dict(request.answer)
        case ["releases"] if isinstance(request.answer, list):
            world.releases[app] = {row["version"]: row for row in request.answer}
        case ["releases", version]:
            world.releases[app] = {int(version): request.answer}
        case ["releases", version, "config-vars"]:
            world.config[app] = dict(request.answer)
        case ["collaborators"]:
            world.collaborators |= {
                (app, row["user"]["email"]) for row in request.answer if row["role"] != "owner"
            }
        case ["webhooks"]:
            world.webhooks = list(request.answer)
        case [] if parts[1] == "notifications":
            world.notifications = list(request.answer)


def _note_newest_releases(world: World, requests: Iterable[Request]) -> None:
    """Which release a change made, so that the app had the one before it."""
    changed = False
    for request in requests:
        changed = changed or request.is_write
        is_list = request.path.endswith("/releases") and request.method == "GET"
        if changed and is_list and request.answer:
            app = world.app_named(request.path.split("/")[2])
            world.newest_release[app] = request.answer[0]["version"] - 1


def _complete(world: World) -> None:
    """Config vars tell of attachments; and an add-on has one on its own app at least."""
    for app, config in world.config.items():
        for name in config:
            alias, _, kind = name.rpartition("_")
            if kind == "KEY" and f"{alias}_URL" in config:
                if not world.addons:
                    world.add(AddonFact(id=ADDON_ID, name=ADDON, app=app), alias)
                world.attach(next(iter(world.addons)), alias, app)
    for addon in world.addons.values():
        if not any(
            fact.addon == addon.name and fact.app == addon.app
            for fact in world.attachments.values()
        ):
            world.attach(addon.name, _free_name(world, addon.app), addon.app)


def _free_name(world: World, app: str) -> str:
    taken = world.aliases(app)
    return next(name for name in ("EMBEDDING", "INFERENCE", "SECOND") if name not in taken)
