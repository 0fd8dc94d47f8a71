"""The URL root: the page for people, the admin with and without its slash, JSON for the rest."""

import json
import uuid
from collections.abc import MutableMapping
from typing import Any

import pytest
from django.test import Client

from config.bounded_bodies import BoundedBodies


def test_the_root_page_says_how_to_begin(client: Client) -> None:
    page = client.get("/").content.decode()
    assert "./manage.py heroku_env" in page
    assert "heroku-inference:standard" in page


def test_the_admin_is_found_without_its_slash(client: Client) -> None:
    assert client.get("/admin").headers["location"] == "/admin/"


@pytest.mark.django_db
def test_an_unknown_path_is_json_that_points_to_the_docs(client: Client) -> None:
    answer = client.get("/nothing/here")
    assert answer.status_code == 404
    assert "docs/platform.md" in answer.json()["message"]


async def run(headers: list[tuple[bytes, bytes]], parts: list[bytes]) -> list[Any]:
    """What a BoundedBodies of 10 bytes sends, and what the application behind it received."""
    received: list[Any] = []
    sent: list[Any] = []
    events = iter([{"type": "http.request", "body": part, "more_body": True} for part in parts])

    async def application(scope: Any, receive: Any, send: Any) -> None:
        received.extend([(await receive())["type"] for _ in parts])

    async def receive() -> MutableMapping[str, Any]:
        return next(events)

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event)

    bounded = BoundedBodies(application, max_bytes=10)
    await bounded({"type": "http", "headers": headers}, receive, send)
    return [*sent, *received]


async def test_a_declared_body_over_the_limit_never_reaches_django() -> None:
    start, body = await run([(b"content-length", b"11")], [b"x"])
    assert start["status"] == 413
    assert "at most 10 bytes" in json.loads(body["body"])["message"]
    request_id = dict(start["headers"])[b"request-id"].decode()
    assert str(uuid.UUID(request_id)) == request_id


async def test_a_body_of_unknown_length_is_cut_off_and_refused_at_the_limit() -> None:
    start, body, *received = await run([], [b"12345", b"67890", b"1"])
    assert received == ["http.request", "http.request", "http.disconnect"]
    assert start["status"] == 413
    assert "at most 10 bytes" in json.loads(body["body"])["message"]


async def test_a_body_of_unknown_length_that_fits_is_not_refused() -> None:
    assert await run([], [b"12345", b"67890"]) == ["http.request", "http.request"]
