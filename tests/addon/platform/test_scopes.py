"""Every scope against every kind of route, and against every route that there is."""

import re
from typing import Any

import pytest
from django.urls import get_resolver

from addon.platform.authentication import TokenAuthentication
from addon.platform.authorizations import create_authorization
from addon.platform.models import Account, App, Authorization
from addon.platform.scopes import (
    INCLUDED,
    Area,
    InsufficientScope,
    Scope,
    require_scope,
    require_scopes,
)
from addon.platform.views.base import PlatformView
from tests.addon.platform.helpers import Api

# Without secrets, for everybody.
DOCUMENTS = {"/openapi/platform"}
READERS = {"global", "read", "write", "read-protected", "write-protected"}
WRITERS = {"global", "write", "write-protected"}
SECRETS = {"global", "read-protected", "write-protected"}
SECRET_WRITERS = {"global", "write-protected"}


def api_with(account: Account, *scopes: str) -> Api:
    return Api(token=create_authorization(account, "tests", scopes=scopes).token)


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"),
    [
        ("GET", "/account", None, set(Scope)),
        ("PATCH", "/account", {"name": "Dev"}, {"global"}),
        ("GET", "/apps", None, READERS),
        ("GET", "/apps/shop", None, READERS),
        ("GET", "/apps/shop/releases", None, READERS),
        ("GET", "/account/invoices", None, READERS),
        ("GET", "/oauth/authorizations", None, READERS),
        ("POST", "/apps", {"name": "another"}, WRITERS),
        ("PATCH", "/apps/shop", {"name": "shop2"}, WRITERS),
        ("DELETE", "/apps/shop", None, WRITERS),
        ("POST", "/oauth/authorizations", {"scope": ["identity"]}, WRITERS),
        ("POST", "/actions/addons/resolve", {"addon": "shop", "app": "shop"}, READERS),
        ("GET", "/apps/shop/config-vars", None, SECRETS),
        ("GET", "/apps/shop/releases/1/config-vars", None, SECRETS),
        ("PATCH", "/apps/shop/config-vars", {"A": "1"}, SECRET_WRITERS),
        ("GET", "/apps/shop/addons/none/sso", None, SECRET_WRITERS),
    ],
)
def test_a_token_may_do_what_its_scope_says_and_nothing_else(
    account: Account, shop: App, scope: Scope, method: str, path: str, body: Any, allowed: set[str]
) -> None:
    answer = api_with(account, scope).call(method, path, body)
    assert (answer.status_code != 403) == (scope in allowed)
    if scope not in allowed:
        assert answer.json()["id"] == "forbidden"
        assert f"this token has {scope}" in answer.json()["message"]


def test_the_refusal_names_the_scope_that_is_needed(account: Account, shop: App) -> None:
    answer = api_with(account, "read", "identity").get("/apps/shop/config-vars")
    assert answer.json() == {
        "id": "forbidden",
        "message": (
            "This needs an access token with the scope read-protected or one that includes it; "
            "this token has read, identity"
        ),
    }


def test_two_scopes_add_up(account: Account, shop: App) -> None:
    both = api_with(account, "write", "read-protected")
    assert both.get("/apps/shop/config-vars").status_code == 200
    assert both.patch("/apps/shop/config-vars", {"A": "1"}).status_code == 403


def test_every_route_refuses_a_token_that_may_only_say_who_it_is(account: Account) -> None:
    api = api_with(account, "identity")
    for view, path in routes():
        if TokenAuthentication not in view.authentication_classes or view.area is Area.ACCOUNT:
            continue
        for method in ("GET", "POST", "PATCH", "PUT", "DELETE"):
            if hasattr(view, method.lower()):
                assert api.call(method, path, {}).status_code == 403, (method, path)


def test_every_route_that_has_config_in_its_path_is_protected() -> None:
    protected = {path for view, path in routes() if view.area is Area.CONFIG_VARS}
    assert protected == {path for _, path in routes() if "config" in path}
    assert len(protected) >= 4


def routes() -> list[tuple[Any, str]]:
    found = []
    for pattern in get_resolver("addon.platform.urls").url_patterns:
        path = "/" + re.sub(
            r"<[^>]*>", "00000000-0000-4000-8000-000000000000", str(pattern.pattern)
        )
        callback: Any = pattern.callback
        if issubclass(callback.view_class, PlatformView):
            found.append((callback.view_class, path))
        else:
            assert path in DOCUMENTS, "every route but these asks for a token's scopes"
    return found


@pytest.mark.parametrize("scope", Scope)
def test_a_scope_includes_itself_and_global_includes_all(scope: Scope) -> None:
    assert scope in INCLUDED[scope]
    assert INCLUDED[Scope.GLOBAL] >= INCLUDED[scope]
    require_scopes(["global"], [scope])


def test_including_is_transitive() -> None:
    for scopes in INCLUDED.values():
        for scope in scopes:
            assert INCLUDED[scope] <= scopes


def test_a_scope_that_is_not_known_allows_nothing() -> None:
    with pytest.raises(ValueError, match="everything"):
        require_scope(["everything"], Area.ACCOUNT, "GET")


def test_no_scope_allows_nothing() -> None:
    with pytest.raises(InsufficientScope):
        require_scope([], Area.ACCOUNT, "GET")


@pytest.mark.parametrize("own", sorted(set(Scope) - {Scope.GLOBAL}))
def test_a_token_cannot_make_one_that_may_do_more(account: Account, own: Scope) -> None:
    api = api_with(account, own)
    for wanted in Scope:
        answer = api.post("/oauth/authorizations", {"scope": [wanted]})
        may = own in WRITERS and wanted in INCLUDED[own]
        assert answer.status_code == (201 if may else 403), wanted


def test_a_token_cannot_make_one_that_may_do_more_by_asking_for_both(account: Account) -> None:
    wanted = {"scope": ["write", "read-protected"]}
    assert api_with(account, "write").post("/oauth/authorizations", wanted).status_code == 403


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "POST"])
def test_a_token_cannot_touch_one_that_may_do_more(account: Account, method: str) -> None:
    larger = create_authorization(account, "larger").authorization
    path = f"/oauth/authorizations/{larger.id}"
    path += "/actions/regenerate-tokens" if method == "POST" else ""
    answer = api_with(account, "write-protected").call(method, path, {"description": "mine"})
    assert answer.status_code == 403
    assert "scope global" in answer.json()["message"]
    unchanged = Authorization.objects.get(id=larger.id)
    assert unchanged.revoked_at is None
    assert (unchanged.description, unchanged.token_digest) == ("larger", larger.token_digest)
