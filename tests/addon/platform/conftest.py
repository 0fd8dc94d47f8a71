"""Accounts, apps and providers for tests of the Platform API.

`provider` is our own one, reached over real HTTP; `bad_provider` is a real server that misbehaves
on command, and its service is `fast-db`.

Imports are inside: pytest may load this file before Django is set up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_django.live_server_helper import LiveServer

    from addon.platform.models import Account, AddonService, App
    from tests.addon.platform.bad_provider import BadProvider
    from tests.addon.platform.helpers import Api


@pytest.fixture(autouse=True)
def _every_answer_is_in_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls the Platform API here: the schema has the last word on the answer."""
    from django.test import Client

    from tests.addon.platform.conformance import check_call

    call = Client.generic

    def checked(client: Client, method: str, path: str, *more: Any, **named: Any) -> Any:
        answer = call(client, method, path, *more, **named)
        check_call(method, path, answer)
        return answer

    monkeypatch.setattr(Client, "generic", checked)


@pytest.fixture
def account(db: None) -> Account:
    from addon.platform.accounts import create_account

    return create_account("dev@example.com", "Dev")


@pytest.fixture
def api(account: Account) -> Api:
    from tests.addon.platform.helpers import api_of

    return api_of(account)


@pytest.fixture
def stranger(db: None) -> Api:
    """Somebody else, who must find nothing."""
    from addon.platform.accounts import create_account
    from tests.addon.platform.helpers import api_of

    return api_of(create_account("stranger@example.com"))


@pytest.fixture
def shop(account: Account) -> App:
    from tests.addon.platform.helpers import new_app

    return new_app(account, "shop")


@pytest.fixture
def blog(account: Account) -> App:
    from tests.addon.platform.helpers import new_app

    return new_app(account, "blog")


@pytest.fixture
def provider(live_server: LiveServer) -> AddonService:
    """Our own provider, over HTTP."""
    from addon.platform.addon_services import register
    from addon.provider.manifest import own_manifest
    from billing.plans import sync_plans

    sync_plans()
    return register(replace(own_manifest(), base_url=f"{live_server.url}/heroku/resources"))


@pytest.fixture
def bad_provider(transactional_db: None) -> Iterator[BadProvider]:
    from tests.addon.platform.helpers import selling_bad_provider

    with selling_bad_provider() as provider:
        yield provider
