"""Rows written by plain statements, as the ORM reads them."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from addon.platform.accounts import create_account
from addon.platform.models import App, ConfigVar
from addon.provider.models import Resource
from addon.statements import insert, insert_or_update, insert_unless_there, update
from tests.addon.platform.helpers import new_app

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def shop(db: None) -> App:
    return new_app(create_account("dev@example.com", "Dev"), "shop")


def var(app: App, name: str, value: str) -> ConfigVar:
    return ConfigVar(app=app, name=name, value=value)


def vars_of(app: App) -> dict[str, str]:
    return dict(app.config_vars.values_list("name", "value"))


class TestInserting:
    def test_a_row_is_as_save_would_leave_it(self, shop: App) -> None:
        row = var(shop, "A", "secret")
        insert(row)
        assert not row._state.adding
        row.value = "other"
        row.save()  # an update
        assert vars_of(shop) == {"A": "other"}
        with connection.cursor() as cursor:
            cursor.execute("SELECT value FROM platform_configvar")
            assert "other" not in cursor.fetchone()[0]

    def test_a_row_that_is_there_is_an_error_or_left_alone(self, shop: App) -> None:
        assert insert_unless_there(var(shop, "A", "first"))
        second = var(shop, "A", "second")
        assert not insert_unless_there(second)
        assert second._state.adding
        assert vars_of(shop) == {"A": "first"}
        with pytest.raises(IntegrityError):
            insert(second)

    def test_several_rows_with_one_statement_in_the_place_of_those_that_are_there(
        self, shop: App
    ) -> None:
        insert(var(shop, "A", "before"))
        before = shop.config_vars.get(name="A").id
        rows = [var(shop, "A", "1"), var(shop, "B", "2")]
        with CaptureQueriesContext(connection) as context:
            insert_or_update(rows, unique=("app", "name"), changed=("value", "attachment"))
        assert len(context) == 1
        assert vars_of(shop) == {"A": "1", "B": "2"}
        assert shop.config_vars.get(name="A").id == before

    def test_no_rows_need_no_statement(self) -> None:
        with CaptureQueriesContext(connection) as context:
            insert_or_update([], unique=("app", "name"), changed=("value",))
        assert len(context) == 0


class TestUpdating:
    def test_only_the_rows_that_equal_it_are_written(self, shop: App) -> None:
        other = new_app(shop.owner, "other")
        assert update(App, {"id": shop.id, "name": "shop"}, {"region": "eu", "released_at": NOW})
        assert not update(App, {"id": other.id, "name": "shop"}, {"region": "eu"})
        assert App.objects.get(id=shop.id).released_at == NOW
        assert App.objects.get(id=other.id).region == "us"

    def test_none_is_found_and_written(self) -> None:
        resource = Resource.objects.create(
            id=uuid4(), plan_slug="standard", region="us", created_at=NOW
        )
        where: dict[str, object] = {"id": resource.id, "next_attempt_at": None}
        later = NOW + timedelta(hours=1)
        assert update(Resource, where, {"next_attempt_at": later, "options": {"model": "m"}}) == 1
        assert update(Resource, where, {"next_attempt_at": None}) == 0
        where["next_attempt_at"] = later
        assert update(Resource, where, {"next_attempt_at": None}) == 1
        resource.refresh_from_db()
        assert resource.next_attempt_at is None
        assert resource.options == {"model": "m"}

    def test_a_row_that_is_referred_to_is_given_by_itself_or_its_id(self, shop: App) -> None:
        insert(var(shop, "A", "1"))
        other = new_app(shop.owner, "other")
        assert update(ConfigVar, {"app": shop, "name": "A"}, {"app": other}) == 1
        assert update(ConfigVar, {"app": other.id}, {"value": "2"}) == 1
        assert vars_of(other) == {"A": "2"}
