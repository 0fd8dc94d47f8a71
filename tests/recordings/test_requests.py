"""Every request of the recorded CLI commands, answered by Annex in this process."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from addon.platform import heroku_apps, names
from tests.addon.platform.bad_provider import running_bad_provider
from tests.recordings import excused
from tests.recordings.comparison import answer_differences
from tests.recordings.providers import StandIn, finish, is_slow, state_told
from tests.recordings.recorded import Recording, Request, read_recording
from tests.recordings.recorded import names as recording_names
from tests.recordings.rows import build, sell
from tests.recordings.situations import bring_about
from tests.recordings.worlds import read_world

DROPPED_HEADERS = {"connection", "content-length", "content-type", "host"}
NAMES = {"id", "name", "cli_url", "token"}


@pytest.fixture(scope="module")
def stand_in(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[StandIn]:
    """Its service is on sale while this module runs: each test finds it there."""
    with running_bad_provider() as server:
        provider = StandIn(server=server)
        with django_db_blocker.unblock():
            sell(provider)
        yield provider
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            # Prices are only ever added to; a table is emptied all the same.
            cursor.execute("TRUNCATE platform_addonservice, billing_plan CASCADE")


def asks_the_platform(name: str) -> bool:
    return any(not request.is_inference for request in read_recording(name).requests)


@pytest.mark.django_db
@pytest.mark.parametrize("name", [name for name in recording_names() if asks_the_platform(name)])
def test_annex_answers_as_recorded(
    name: str, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = read_recording(name)
    differences = replay(recording, stand_in, monkeypatch)
    if name in excused.REQUESTS:
        assert differences, f"{name} is as recorded: take it out of excused.toml"
    else:
        assert not differences, "\n".join(differences)


def replay(recording: Recording, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    world = read_world(recording)
    bring_about(recording.name, world)
    stand_in.is_prompt()
    build(world, stand_in, timezone.now())
    if is_slow(recording):
        stand_in.is_slow()
    if world.refusal:
        stand_in.refuses(world.refusal)
    if world.is_database_away:
        monkeypatch.setattr(heroku_apps, "get_app", _fail)
    _draw_recorded_names(recording, monkeypatch)
    differences = []
    called: dict[str, str] = {}  # what was recorded, and what Annex calls it
    is_changed = False
    for request in recording.requests:
        if request.is_inference:
            continue
        finish(state_told(request), stand_in, timezone.now())
        response = _send(request, called)
        answer = _body(response)
        differences += [
            f"{request.method} {request.path}: {difference}"
            for difference in answer_differences(
                request, response.status_code, answer, is_after_a_change=is_changed
            )
        ]
        is_changed = is_changed or request.is_write
        if request.is_write or request.path.endswith("/config-vars"):
            called.update(_new_names(request.answer, answer))
    return differences


def _fail(*_: object) -> NoReturn:
    raise OperationalError("the server closed the connection unexpectedly")


def _draw_recorded_names(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [
        request.answer["name"]
        for request in recording.requests
        if request.status == 201 and "addon_service" in request.answer
    ]
    draw = names.addon_name

    def addon_name(service: str) -> str:
        return made.pop(0) if made else draw(service)

    monkeypatch.setattr(names, "addon_name", addon_name)


def _send(request: Request, called: Mapping[str, str]) -> Any:
    path = _replaced(request.path, called)
    body = "" if request.body is None else _replaced(json.dumps(request.body), called)
    headers = {
        name: _replaced(value, called)
        for name, value in request.headers.items()
        if name not in DROPPED_HEADERS
    }
    return Client().generic(
        request.method, path, body.encode(), content_type="application/json", headers=headers
    )


def _replaced(text: str, called: Mapping[str, str]) -> str:
    for recorded, ours in called.items():
        text = text.replace(recorded, ours)
    return text


def _body(response: Any) -> Any:
    # What streams comes when a person has agreed in a browser; `make recordings` does that.
    if response.streaming or not response.content:
        return None
    assert response["Content-Type"].startswith("application/json"), response["Content-Type"]
    return json.loads(response.content)


def _new_names(recorded: Any, answer: Any) -> Iterator[tuple[str, str]]:
    if isinstance(recorded, dict) and isinstance(answer, dict):
        for name in recorded:
            if name not in NAMES and not name.endswith("_KEY"):
                continue
            if isinstance(recorded.get(name), str) and isinstance(answer.get(name), str):
                yield recorded[name], answer[name]
