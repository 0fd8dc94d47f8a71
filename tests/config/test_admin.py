"""The admin has every table, but for sessions, whose ids are logins, and parts of invoices."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse

from billing.models import CreditUse, InvoiceLine


def test_every_table_but_sessions_and_parts_of_invoices_is_there() -> None:
    assert {model for model in apps.get_models() if not admin.site.is_registered(model)} == {
        Session,
        InvoiceLine,
        CreditUse,
    }


@pytest.mark.django_db
def test_every_list_opens_and_can_be_searched(client: Client) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    for model in admin.site._registry:
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        for query in ("", "?q=x", "?q=%00", "?q=00000000-0000-0000-0000-000000000000"):
            assert client.get(url + query).status_code == 200, url + query


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("table", "action"),
    [("provider/resource", "rotate_keys"), ("auth/user", "delete_selected")],
)
@pytest.mark.parametrize("chosen", ["x", "\0"])
def test_an_action_on_what_is_no_id_is_refused(
    client: Client, table: str, action: str, chosen: str
) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    answer = client.post(f"/admin/{table}/", {"action": action, "_selected_action": [chosen]})
    assert answer.status_code == 400
    assert b"an id" in answer.content


@pytest.mark.django_db
def test_a_filter_that_no_row_can_have_is_refused(client: Client) -> None:
    client.force_login(User.objects.create_superuser("operator"))
    assert client.get("/admin/platform/addon/?state__exact=%00").status_code == 400
