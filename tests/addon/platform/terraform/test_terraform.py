"""What Terraform's provider for Heroku sends, in order, and what it reads of the answers.

The provider itself is a program of Go that cannot be run here. The recordings were written down
from its source, which each names. `heroku_config`, its fifth resource, sends nothing.

A `$name` is what an earlier step saved. `reads` has a value, or {"type"} or {"format"} of one, for
each field that the provider reads; "" is the whole body.
"""

import base64
import json
import uuid
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.test import Client

from addon.platform.models import Account, AddonService
from tests.addon.platform.conformance import FORMATS
from tests.addon.platform.helpers import Api

RECORDINGS = sorted(Path(__file__).parent.glob("*.json"))
AGENT = "heroku/v6 (linux; amd64) terraform-provider-heroku/5.3.2"


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_terraform_finds_all_that_it_reads(
    recording: Path, api: Api, account: Account, provider: AddonService
) -> None:
    recorded = json.loads(recording.read_text())
    saved = prepare(api, recorded["needs"])
    for step in recorded["steps"]:
        answer = send(api, account, filled(step["request"], saved))
        assert answer.status_code == step["status"], (step["does"], answer.content)
        body = answer.json()
        for path, name in ((path, name) for name, path in step.get("saves", {}).items()):
            saved[name] = field(body, path)
        for path, expected in filled(step.get("reads", {}), saved).items():
            assert is_as_expected(field(body, path), expected), (step["does"], path, body)


def prepare(api: Api, needs: list[str]) -> dict[str, str]:
    """What other resources have made before."""
    saved: dict[str, str] = {}
    for name, app in (("app", "shop"), ("other", "blog")):
        if name in needs:
            saved[name] = api.post("/apps", {"name": app}).json()["id"]
    if "addon" in needs:
        saved["addon"] = api.add("shop").json()["id"]
    return saved


def send(api: Api, account: Account, request: Any) -> Any:
    """As heroku-go sends it: Basic with the e-mail address and the token, an id of its own."""
    credentials = base64.b64encode(f"{account.email}:{api.token}".encode()).decode()
    headers = {
        "Accept": "application/vnd.heroku+json; version=3",
        "Authorization": f"Basic {credentials}",
        "Request-Id": str(uuid.uuid4()),
        "User-Agent": AGENT,
    }
    if "range" in request:
        headers["Range"] = request["range"]
    body = json.dumps(request["body"]) if "body" in request else ""
    return Client().generic(
        request["method"], request["path"], body, "application/json", headers=headers
    )


def filled(value: Any, saved: dict[str, str]) -> Any:
    """`value` with what was saved in place of each $name."""
    if isinstance(value, dict):
        return {name: filled(each, saved) for name, each in value.items()}
    if isinstance(value, str):
        for name in sorted(saved, key=len, reverse=True):
            value = value.replace(f"${name}", saved[name])
    return value


def field(body: Any, path: str) -> Any:
    for step in path.split(".") if path else []:
        body = body[int(step)] if isinstance(body, list) else body[step]
    return body


def is_as_expected(value: Any, expected: Any) -> bool:
    if isinstance(expected, dict) and expected.keys() & {"type", "format"}:
        schema = {"type": "string", **expected}
        return bool(jsonschema.Draft4Validator(schema, format_checker=FORMATS).is_valid(value))
    return bool(value == expected)
