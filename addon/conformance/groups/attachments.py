"""Annex's extension `attachment_credentials`: each attachment has a config of its own."""

from collections.abc import Mapping
from uuid import uuid4

from addon.conformance.checks import Failed, Skipped, check
from addon.conformance.exchanges import Exchange
from addon.conformance.groups.config import read_config, require_declared, require_strings
from addon.conformance.run import GONE, Run


def send(run: Run, method: str, attachment: str, body: object = None) -> Exchange:
    if not run.manifest.attachment_credentials:
        raise Skipped("the manifest has no api.annex.attachment_credentials")
    target = "/heroku/resources/:uuid/attachments/:id"
    path = f"/{run.shared().uuid}/attachments/{attachment}"
    return run.client.send(method, path, body, target=target)


def attach(run: Run, attachment: str, name: str) -> Mapping[str, object]:
    exchange = send(run, "PUT", attachment, {"name": name, "app": "conformance"})
    if exchange.status != 200:
        raise Failed(f"{exchange.name} was answered {exchange.said}; expected 200")
    config = read_config(exchange.body.get("config"))
    require_declared(run, config)
    require_strings(config)
    return config


@check(
    "attachments.config",
    "an attachment has a config of its own, and a repeat the same",
    "A key for each app can be revoked without the others, and a repeat must not change it.",
)
def config(run: Run) -> None:
    first, second = str(uuid4()), str(uuid4())
    one = attach(run, first, "SEARCH")
    if attach(run, second, "FIND") == one:
        raise Failed("two attachments have the same config")
    if attach(run, first, "SEARCH") != one:
        raise Failed("the same attachment again has another config")
    for attachment in (first, second):
        send(run, "DELETE", attachment)


@check(
    "attachments.detach",
    "a detached one is gone: 204, then 410, and it is not attached again",
    "Detaching is how a key that leaked is made worthless.",
)
def detach(run: Run) -> None:
    attachment = str(uuid4())
    attach(run, attachment, "SEARCH")
    exchange = send(run, "DELETE", attachment)
    if not exchange.is_success:
        raise Failed(f"{exchange.name} was answered {exchange.said}; expected 204")
    for repeat in (
        send(run, "DELETE", attachment),
        send(run, "PUT", attachment, {"name": "SEARCH", "app": "conformance"}),
    ):
        if repeat.status != 410:
            raise Failed(f"then {repeat.name} was answered {repeat.said}; expected 410")


@check(
    "attachments.unknown",
    "one that there is not is a 404 or 410",
    "Whoever detaches twice must be able to tell that it is done.",
)
def unknown(run: Run) -> None:
    exchange = send(run, "DELETE", str(uuid4()))
    if exchange.status not in GONE:
        raise Failed(f"{exchange.name} was answered {exchange.said}; expected 404 or 410")
