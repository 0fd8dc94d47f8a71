"""`POST /heroku/resources`, and its answer."""

import re

from addon.conformance.checks import Failed, Skipped, Warned, check
from addon.conformance.groups.config import (
    kind_of,
    read_config,
    require_declared,
    require_strings,
    require_urls,
)
from addon.conformance.run import Run

ID_MAX_CHARACTERS = 256
MESSAGE_MAX_CHARACTERS = 2000


@check(
    "provision.status",
    "it is answered 200, 201 or 202, and a 202 is followed by its callbacks",
    "Anything else is a failure to the platform, which tries again for a day and then gives up.",
)
def status(run: Run) -> None:
    run.shared()


@check(
    "provision.id",
    "the answer has an id, a string",
    "It is the provider_id of the add-on; Heroku never asks for it again.",
)
def provider_id(run: Run) -> None:
    value = run.shared().provider_id
    if isinstance(value, int) and not isinstance(value, bool):
        raise Warned("id is a number, as in v1 of the API; v3 has strings")
    if not isinstance(value, str) or not value:
        raise Failed(f"id is {kind_of(value)}; expected a string")
    if len(value) > ID_MAX_CHARACTERS:
        raise Failed(f"id has {len(value)} characters; at most {ID_MAX_CHARACTERS} can be stored")


@check(
    "provision.config",
    "config is an object",
    "Without config vars the app cannot find what its owner pays for.",
)
def config(run: Run) -> None:
    resource = run.shared()
    if resource.answer.status == 202:
        raise Skipped("the plan is asynchronous: see async.config")
    read_config(resource.answer.body.get("config"))


@check(
    "provision.config-declared",
    "every config var is declared in the manifest",
    "The platform drops, or refuses, config vars that api.config_vars does not list.",
)
def config_declared(run: Run) -> None:
    require_declared(run, run.shared().config)


@check(
    "provision.config-complete",
    "every config var of the manifest is set",
    "The documentation of an add-on tells its users to read all of them.",
)
def config_complete(run: Run) -> None:
    missing = [name for name in run.manifest.config_vars if name not in run.shared().config]
    if missing:
        raise Warned(f"not set: {', '.join(missing)[:200]}")


@check(
    "provision.config-strings",
    "every value is a string",
    "Config vars become environment variables, which are nothing else.",
)
def config_strings(run: Run) -> None:
    require_strings(run.shared().config)


@check(
    "provision.config-urls",
    "every value of a _URL is a URL with a scheme and a host",
    "Clients parse it when the app boots: a wrong one takes the app down.",
)
def config_urls(run: Run) -> None:
    require_urls(run, run.shared().config)


@check(
    "provision.message",
    "message, if there is one, is text for people",
    "The CLI prints it as it is.",
)
def message(run: Run) -> None:
    value = run.shared().answer.message
    if value is None:
        return
    if not isinstance(value, str):
        raise Failed(f"message is {kind_of(value)}; expected a string")
    if len(value) > MESSAGE_MAX_CHARACTERS:
        raise Failed(f"message has {len(value)} characters; at most {MESSAGE_MAX_CHARACTERS}")


@check(
    "provision.log-drain-url",
    "log_drain_url is an https or syslog URL",
    "A provider that requires syslog_drain gets no logs without it.",
)
def log_drain_url(run: Run) -> None:
    if "syslog_drain" not in run.manifest.requires:
        raise Skipped("api.requires has no syslog_drain")
    value = run.shared().answer.body.get("log_drain_url")
    if not isinstance(value, str) or not re.fullmatch(r"(https|syslog)://\S+", value):
        raise Failed(f"log_drain_url is {kind_of(value)}; expected https://… or syslog://…")
