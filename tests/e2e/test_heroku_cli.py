"""The commands that people type, with the real Heroku CLI; asserted is what they see.

Each command takes a second or more, so a test is a whole story, and what only reads is run at once.
The commands about access and logins are in test_access.py and test_login.py.
"""

import hashlib
import hmac
import http.server
import json
import re
import secrets
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.annex import Annex
from tests.e2e.cli import HerokuCli, curl
from tests.e2e.conftest import Embedding

SERVICE = "heroku-inference"
STANDARD = f"{SERVICE}:standard"
ME = "dev@example.com"
DELIVERED_WITHIN_S = 20.0


def new_name(word: str) -> str:
    return f"{word}-{secrets.token_hex(4)}"


@pytest.fixture
def other_app(heroku: HerokuCli) -> str:
    name = new_name("blog")
    heroku("apps:create", name)
    return name


@pytest.fixture
def addon(heroku: HerokuCli, app: str) -> str:
    """The name of an add-on that is attached to `app` as EMBEDDING."""
    name = new_name("vectors")
    words = ("addons:create", STANDARD, "--app", app, "--as", "EMBEDDING", "--name", name)
    heroku(*words)
    return name


def test_the_account_the_regions_and_what_is_on_sale_are_shown(heroku: HerokuCli) -> None:
    me, regions, services, plans, plans_json = heroku.each(
        ["auth:whoami"],
        ["regions"],
        ["addons:services"],
        ["addons:plans", SERVICE],
        ["addons:plans", SERVICE, "--json"],
    )
    assert me.stdout.strip() == ME
    assert "eu Europe Common Runtime us United States Common Runtime" in regions.seen
    assert f"{SERVICE} Managed Inference ga" in services.seen
    assert f"default {STANDARD} Standard metered https://elements.heroku.com" in plans.seen
    assert f"{SERVICE}:dedicated Dedicated ~$2.940/hour $2116.80/month" in plans.seen
    assert {plan["name"] for plan in json.loads(plans_json.stdout)} >= {
        STANDARD,
        f"{SERVICE}:dedicated",
    }


def test_an_app_is_created_renamed_shown_and_destroyed(heroku: HerokuCli, annex: Annex) -> None:
    name, renamed = new_name("shop"), new_name("store")
    created = heroku("apps:create", name, "--region", "eu").seen
    assert f"Creating {name}... done" in created
    assert f"{annex.url}/apps/{name}" in created
    assert (
        f"Renaming {name} to {renamed}... done"
        in heroku("apps:rename", renamed, "--app", name).seen
    )
    info, listed = heroku.each(["apps:info", "--app", renamed], ["apps"])
    assert f"=== {renamed} " in info.seen
    assert f"Owner: {ME} Region: eu" in info.seen
    assert listed.seen.startswith(f"=== {ME} Apps")
    assert f"{renamed} (eu)" in listed.seen
    assert name not in listed.seen
    destroyed = heroku("apps:destroy", "--app", renamed, "--confirm", renamed).seen
    assert f"Destroying {renamed} (including all add-ons)... done" in destroyed
    gone = heroku.try_("apps:info", "--app", renamed)
    assert gone.status != 0
    assert "Couldn't find that app" in gone.seen


def test_an_addon_is_created_by_every_option_and_shown(heroku: HerokuCli, app: str) -> None:
    name = new_name("vectors")
    created = heroku(
        *("addons:create", STANDARD, "--app", app, "--as", "EMBEDDING", "--name", name),
        *("--wait", "--", "--note", "for the shop", "--strict"),
    ).seen
    assert f"Creating {STANDARD} on {app}... metered" in created
    variables = "EMBEDDING_KEY, EMBEDDING_MODEL_ID, EMBEDDING_URL"
    assert f"Created {name} as {variables}" in created
    by_app, everywhere, info, open_, docs, _, _ = heroku.each(
        ["addons", "--app", app],
        ["addons", "--all"],
        ["addons:info", "EMBEDDING", "--app", app],
        ["addons:open", "EMBEDDING", "--app", app, "--show-url"],
        ["addons:docs", name, "--show-url"],
        ["addons:wait", name],
        ["addons:wait", "--app", app],
    )
    row = f"{SERVICE} ({name}) standard metered metered created └─ as EMBEDDING"
    assert row in by_app.seen
    assert f"{app} {name} {STANDARD} metered metered created" in everywhere.seen
    assert info.seen.startswith(f"=== {name} Plan: {STANDARD} Price: metered")
    assert f"Attachments: {app}::EMBEDDING Owning app: {app} Installed at: " in info.seen
    assert info.seen.endswith("State: created")
    assert open_.stdout.startswith(heroku.env["HEROKU_HOST"])
    assert docs.stdout.strip() == f"https://devcenter.heroku.com/articles/{SERVICE}"


def test_what_would_overwrite_config_vars_must_be_confirmed(heroku: HerokuCli, app: str) -> None:
    heroku("config:set", "SEARCH_URL=https://search.example.com", "--app", app)
    create = ("addons:create", STANDARD, "--app", app, "--as", "SEARCH")
    asked = heroku.try_(*create).seen
    assert "would overwrite" in asked
    assert f"type {app} or re-run this command with --confirm {app}" in asked
    assert list(heroku.config(app)) == ["SEARCH_URL"]
    typed = heroku.in_terminal(*create, answers=[(f"--confirm {app}", f"{app}\r")])
    assert typed.status == 0, typed.seen
    assert "SEARCH_KEY" in typed.seen
    assert heroku.config(app)["SEARCH_URL"] == heroku.env["HEROKU_HOST"]


def test_an_unknown_plan_is_refused_in_words(heroku: HerokuCli, app: str) -> None:
    refused = heroku.try_("addons:create", f"{SERVICE}:gigantic", "--app", app)
    assert refused.status != 0
    assert "Couldn't find either the add-on service or the add-on plan" in refused.seen


def test_an_addon_is_attached_to_another_app_renamed_detached_and_destroyed(
    heroku: HerokuCli, app: str, other_app: str, addon: str
) -> None:
    attached = heroku("addons:attach", f"{app}::EMBEDDING", "--app", other_app, "--as", "SHARED")
    assert f"Attaching {addon} as SHARED to {other_app}... done" in attached.seen
    assert f"Setting SHARED config vars and restarting {other_app}... done, v2" in attached.seen
    own, others = heroku.config(app), heroku.config(other_app)
    assert others["SHARED_URL"] == own["EMBEDDING_URL"]
    assert others["SHARED_KEY"] != own["EMBEDDING_KEY"]

    heroku("config:set", "TAKEN_URL=x", "--app", other_app)
    attach = ("addons:attach", addon, "--app", other_app, "--as", "TAKEN")
    asked = heroku.try_(*attach).seen
    assert f"Attaching {addon} to app {other_app} would overwrite existing vars TAKEN_URL" in asked
    confirmed = heroku(*attach, "--confirm", other_app).seen
    assert f"Attaching {addon} as TAKEN to {other_app}... done" in confirmed
    absent = heroku.try_(*attach, "--credential", "readonly")
    assert absent.status != 0
    assert "Could not find credential readonly" in absent.seen

    new = new_name("renamed")
    assert f"{addon} successfully renamed to {new}." in heroku("addons:rename", addon, new).seen
    listed = heroku("addons", "--app", other_app).seen
    assert f"{SERVICE} ({new}) standard (billed to {app} app)" in listed
    assert f"as SHARED ├─ as TAKEN └─ as EMBEDDING on {app} app" in listed

    destroy = ("addons:destroy", new, "--app", app, "--confirm", app)
    refused = heroku.try_(*destroy)
    assert refused.status != 0
    assert f"{new} is also attached to: {other_app}" in refused.seen
    assert "--force" in refused.seen
    detached = heroku("addons:detach", "SHARED", "--app", other_app).seen
    assert f"Detaching SHARED to {new} from {other_app}... done" in detached
    assert "SHARED_KEY" not in heroku.config(other_app)
    destroyed = heroku(*destroy, "--force", "--wait").seen
    assert f"Destroying {new} on {app}... done" in destroyed
    assert heroku.config(app) == {}
    assert heroku.config(other_app) == {}


def test_the_plan_of_an_addon_is_changed_up_and_down(
    heroku: HerokuCli, app: str, addon: str
) -> None:
    key = heroku.config(app)["EMBEDDING_KEY"]
    refused = heroku.try_("addons:upgrade", f"{SERVICE}:gigantic", "--app", app)
    assert refused.status != 0
    assert "Couldn't find either the add-on service or the add-on plan" in refused.seen
    assert f"{SERVICE}:dedicated" in refused.seen
    changed = heroku("addons:upgrade", f"{SERVICE}:dedicated", "--app", app).seen
    expected = f"from {STANDARD} to {SERVICE}:dedicated... done, ~$2.940/hour"
    assert f"Changing {addon} on {app} {expected}" in changed
    heroku("addons:downgrade", addon, "cohere-embed-multilingual")
    config = heroku.config(app)
    assert config["EMBEDDING_MODEL_ID"] == "cohere-embed-multilingual"
    assert config["EMBEDDING_KEY"] == key
    assert f"Change plan of {addon}" in heroku("releases", "--app", app).seen


def test_what_an_addon_used_is_shown_by_its_meters(
    heroku: HerokuCli, app: str, embedding: Embedding
) -> None:
    assert f"No usage found for app {app}" in heroku("usage:addons", "--app", app).seen
    status, _, body = curl(
        f"{embedding.url}/v1/embeddings",
        "--header", f"Authorization: Bearer {embedding.key}",
        "--header", "Content-Type: application/json",
        "--data", json.dumps({"model": embedding.model_id, "input": ["one", "two"]}),
    )  # fmt: skip
    assert status == 200
    tokens = body["usage"]["prompt_tokens"]
    shown = heroku.each(["usage:addons", "--app", app], ["usage:addons", "--team", ME])
    for usage in shown:
        assert f"Usage for {app}" in usage.seen
        for meter, quantity in (("requests", 1), ("inputs", 2), ("input tokens", tokens)):
            assert f"{meter} {quantity}" in usage.seen


def test_config_vars_are_set_shown_edited_and_unset(
    heroku: HerokuCli, app: str, addon: str, tmp_path: Path
) -> None:
    done = heroku("config:set", "GREETING=good morning", "EMPTY=", "--app", app).seen
    assert f"Setting GREETING, EMPTY and restarting {app}... done, v3" in done
    refused = heroku.try_("config:set", "EMBEDDING_URL=http://example.com", "--app", app)
    assert refused.status != 0
    assert f"Cannot destroy or overwrite config var EMBEDDING_URL from attached add-on {addon}" in (
        refused.seen
    )
    shown, shell, as_json, one, none = heroku.each(
        ["config", "--app", app],
        ["config", "-s", "--app", app],
        ["config", "-j", "--app", app],
        ["config:get", "GREETING", "--app", app],
        ["config:get", "NOTHING", "--app", app],
    )
    assert f"=== {app} Config Vars" in shown.seen
    assert "GREETING: good morning" in shown.seen
    assert "GREETING='good morning'" in shell.stdout.splitlines()
    assert json.loads(as_json.stdout)["GREETING"] == "good morning"
    assert (one.stdout, none.stdout) == ("good morning\n", "\n")

    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i -e '/EMPTY/d' -e 's/morning/evening/' \"$1\"\n")
    editor.chmod(0o700)
    prompt = f"Update config on {app} with these values?"
    edited = heroku.in_terminal(
        "config:edit", "--app", app, answers=[(prompt, "y\r")], EDITOR=str(editor), VISUAL=""
    )
    assert edited.status == 0, edited.seen
    assert "- GREETING='good morning' + GREETING='good evening'" in edited.seen
    config = heroku.config(app)
    assert config["GREETING"] == "good evening"
    assert "EMPTY" not in config
    assert "EMBEDDING_KEY" in config
    unset = heroku("config:unset", "GREETING", "--app", app).seen
    assert f"Unsetting GREETING and restarting {app}... done, v5" in unset


def test_releases_are_listed_shown_and_rolled_back(heroku: HerokuCli, app: str, addon: str) -> None:
    heroku("config:set", "GREETING=good morning", "--app", app)
    listed, second, latest = heroku.each(
        ["releases", "--app", app],
        ["releases:info", "v2", "--app", app],
        ["releases:info", "--app", app],
    )
    assert f"=== {app} Releases - Current: v3" in listed.seen
    for words in ("v3 Set GREETING config vars", f"v2 Attach EMBEDDING ({addon})", "v1 Initial"):
        assert words in listed.seen
    assert f"=== Release v2 Add-ons: {STANDARD} By: {ME}" in second.seen
    assert f"Change: Attach EMBEDDING ({addon}) Eligible for Rollback?: Yes" in second.seen
    assert "=== v2 Config vars EMBEDDING_KEY: inf_" in second.seen
    assert "GREETING" not in second.seen
    assert "GREETING: good morning" in latest.seen
    back = heroku("releases:rollback", "v2", "--app", app).seen
    assert f"Rolling back {app} to v2... done, v4" in back
    assert "GREETING" not in heroku.config(app)


class Receiver(http.server.BaseHTTPRequestHandler):
    """Notes what is delivered."""

    delivered: list[tuple[dict[str, str], bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.delivered.append((dict(self.headers), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Not on the terminal of the tests."""


@contextmanager
def receiving() -> Iterator[str]:
    """The URL of a receiver."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook"
        server.shutdown()


def test_a_webhook_is_added_told_changed_and_removed(heroku: HerokuCli, app: str) -> None:
    with receiving() as url:
        words = ("--include", "api:release", "--level", "sync", "--url", url, "--app", app)
        added = heroku("webhooks:add", *words).seen
        assert f"Adding webhook to {app}... done" in added
        secret = find(r"=== Webhooks Signing Secret (\S+)", added)
        heroku("config:set", "GREETING=hello", "--app", app)
        deadline = time.monotonic() + DELIVERED_WITHIN_S
        while not Receiver.delivered:
            assert time.monotonic() < deadline, "nothing was delivered"
            time.sleep(0.1)
    headers, body = Receiver.delivered[0]
    digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    assert headers["Heroku-Webhook-Hmac-SHA256"] == b64encode(digest).decode()
    event = json.loads(body)
    assert event["webhook_metadata"]["event"]["include"] == "api:release"
    assert event["data"]["description"] == "Set GREETING config vars"
    listed, deliveries, events = heroku.each(
        ["webhooks", "--app", app],
        ["webhooks:deliveries", "--app", app],
        ["webhooks:events", "--app", app],
    )
    webhook = find(rf"(\S+) {re.escape(url)} api:release sync", listed.seen)
    delivery = find(r"(\S+) \S+ succeeded api:release", deliveries.seen)
    event_id = find(r"(\S+) release create", events.seen)
    info, of_delivery, of_event = heroku.each(
        ["webhooks:info", webhook, "--app", app],
        ["webhooks:deliveries:info", delivery, "--app", app],
        ["webhooks:events:info", event_id, "--app", app],
    )
    assert f"=== {webhook} Include: api:release Level: sync" in info.seen
    assert f"URL: {url}" in info.seen
    assert f"=== {delivery} Created: " in of_delivery.seen
    assert "Set GREETING config vars" in of_delivery.seen
    assert "Set GREETING config vars" in of_event.seen
    update = ("--include", "api:addon", "--level", "notify", "--url", "https://example.com/hook")
    changed = heroku("webhooks:update", webhook, *update, "--app", app).seen
    assert f"Updating webhook {webhook} for {app}... done" in changed
    removed = heroku("webhooks:remove", webhook, "--app", app).seen
    assert f"Removing webhook {webhook} from {app}... done" in removed
    assert f"{app} has no webhooks" in heroku("webhooks", "--app", app).seen


def test_notifications_are_shown_once(annexed: HerokuCli, annex: Annex) -> None:
    title = new_name("Told")
    annex.manage(
        "shell",
        "--command",
        "from django.utils import timezone\n"
        "from addon.platform.accounts import find_account\n"
        "from addon.platform.notifications import notify\n"
        f"notify(find_account({ME!r}), None, {title!r}, 'All is well.', timezone.now())",
    )
    unread = annexed("notifications").seen
    assert unread.startswith("=== Unread Notifications")
    assert f"{title} " in unread
    assert "All is well." in unread
    again, read = annexed.each(["notifications"], ["notifications", "--read"])
    assert "No unread notifications." in again.seen
    assert title in read.seen


def test_a_wrong_key_is_refused(heroku: HerokuCli) -> None:
    refused = as_other(heroku, "HRKU-wrong").try_("auth:whoami")
    assert refused.status != 0


def as_other(heroku: HerokuCli, key: str) -> HerokuCli:
    """The CLI with another API key."""
    return HerokuCli(heroku.exports | {"HEROKU_API_KEY": key}, Path(heroku.env["HOME"]))


def find(pattern: str, seen: str) -> str:
    found = re.search(pattern, seen)
    assert found is not None, f"no {pattern!r} in: {seen}"
    return found.group(1)
