"""Queries that are made into SQL once."""

import threading
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.db.transaction import TransactionManagementError, atomic
from django.test.utils import CaptureQueriesContext

from addon.platform.accounts import create_account
from addon.platform.models import AddonService, App, ConfigVar
from billing.compiled_queries import CompiledQuery
from tests.addon.platform.helpers import new_app

pytestmark = pytest.mark.django_db


@CompiledQuery
def by_name(name: str) -> QuerySet[App]:
    return App.objects.filter(name=name, destroyed_at=None).select_related("owner__team")


@CompiledQuery
def two_newest(region: str) -> QuerySet[App]:
    return App.objects.filter(region=region).order_by("-name")[:2]


@CompiledQuery
def values_of(name: str) -> QuerySet[ConfigVar, tuple[str, str]]:
    return ConfigVar.objects.filter(app__name=name).values_list("name", "value")


@CompiledQuery
def locked(name: str) -> QuerySet[App]:
    return App.objects.select_for_update().filter(name=name)


@CompiledQuery
def service_named(name: str) -> QuerySet[AddonService]:
    return AddonService.objects.filter(name=name)


@pytest.fixture
def shop(db: None) -> App:
    return new_app(create_account("dev@example.com", "Dev"), "shop")


class TestACompiledQuery:
    def test_finds_what_its_query_set_finds_with_one_statement(self, shop: App) -> None:
        new_app(shop.owner, "other")
        for _ in range(2):
            with CaptureQueriesContext(connection) as context:
                found = by_name.first("shop")
                assert found is not None
                assert found.owner.email == shop.owner.email
                assert not hasattr(found.owner, "team")
            assert len(context) == 1
            expected = App.objects.get(name="shop")
            assert found.__dict__.keys() == expected.__dict__.keys()
            for field in App._meta.concrete_fields:
                assert getattr(found, field.attname) == getattr(expected, field.attname)

    def test_takes_the_arguments_of_each_run(self, shop: App) -> None:
        other = new_app(shop.owner, "other")
        assert [by_name.first(name) for name in ("shop", "other", "third")] == [shop, other, None]

    def test_keeps_order_and_limit(self, shop: App) -> None:
        for name in ("alpha", "omega", "zeta"):
            new_app(shop.owner, name)
        assert [app.name for app in two_newest.all(shop.region)] == ["zeta", "shop"]
        assert two_newest.all("eu") == []

    def test_converts_what_the_model_converts(self, shop: App) -> None:
        ConfigVar.objects.create(app=shop, name="SECRET", value="as it was written")
        assert values_of.all("shop") == [("SECRET", "as it was written")]
        AddonService.objects.create(name="db", password="secret", config_vars=["DB_URL"])
        found = service_named.first("db")
        assert found is not None
        assert (found.password, found.config_vars) == ("secret", ["DB_URL"])

    def test_that_is_saved_writes_the_row(self, shop: App) -> None:
        found = by_name.first("shop")
        assert found is not None
        found.name = "store"
        found.save(update_fields=["name"])
        shop.refresh_from_db()
        assert shop.name == "store"

    def test_serves_threads_that_did_not_compile_it(self, shop: App) -> None:
        assert by_name.first(str(uuid4())) is None
        seen: list[object] = []

        def ask() -> None:
            try:
                seen.append(by_name.first("of a thread"))
            finally:
                connection.close()

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(30)
        assert seen == [None]


@pytest.mark.django_db(transaction=True)
def test_a_lock_needs_a_transaction(shop: App) -> None:
    for _ in range(2):
        with atomic():
            assert locked.first("shop") == shop
        with pytest.raises(TransactionManagementError):
            locked.first("shop")
