"""Invoices as an account reads them, in Heroku's shape and in ours; nobody else's, ever."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from pytest_django import Settings

from addon.platform.accounts import find_account
from addon.platform.models import Account
from billing.bulk import record_many
from billing.metering import Usage
from billing.models import Invoice
from tests.addon.platform.helpers import Api
from tests.billing.conftest import new_usage  # noqa: F401 - a fixture
from tests.billing.invoicing import Month, invoiced_month, load_verifier

pytestmark = pytest.mark.django_db


@pytest.fixture
def month(account: Account, new_usage: Callable[..., Usage]) -> Month:  # noqa: F811
    """October's final invoice of the account, and a draft of later."""
    month = invoiced_month(new_usage, account.id)
    later = new_usage(
        customer_id=account.id, resource_id=month.resource_id,
        price_id=month.usages[0].price_id, model_id=month.usages[0].model_id,
    )  # fmt: skip
    record_many([later], stored_at=datetime(2026, 11, 3, tzinfo=UTC))
    return month


def test_invoices_are_listed_in_herokus_shape(api: Api, month: Month) -> None:
    draft, final = api.get("/account/invoices").json()
    assert "number" not in draft
    assert (draft["state"], draft["period_start"], draft["period_end"]) == (
        0, "11/01/2026", "11/30/2026",
    )  # fmt: skip
    assert (final["state"], final["number"]) == (1, month.invoice.number)
    assert final["charges_total"] == 367.961068
    assert final["credits_total"] == 5.0
    assert final["total"] == 362.961068


def test_an_invoice_is_found_by_number_and_by_id(api: Api, month: Month) -> None:
    draft, final = api.get("/account/invoices").json()
    for identity in (final["number"], final["id"]):
        assert api.get(f"/account/invoices/{identity}").json() == final
    assert api.get(f"/account/invoices/{draft['id']}").json()["id"] == draft["id"]


def test_a_draft_is_as_of_now(api: Api, month: Month, new_usage: Callable[..., Usage]) -> None:  # noqa: F811
    draft = api.get("/account/invoices").json()[0]
    more = new_usage(
        customer_id=month.customer_id, resource_id=month.resource_id, text_tokens=10**9,
        price_id=month.usages[0].price_id, model_id=month.usages[0].model_id,
    )  # fmt: skip
    record_many([more], stored_at=datetime(2026, 11, 4, tzinfo=UTC))
    now = api.get(f"/account/invoices/{draft['id']}").json()
    assert now["charges_total"] > draft["charges_total"]


def test_the_lines_say_what_was_charged_for(api: Api, month: Month) -> None:
    lines = api.get(f"/account/invoices/{month.invoice.number}/lines").json()
    assert [line["position"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert sum(line["amount_microunits"] for line in lines) == month.invoice.total_microunits


def test_a_line_expands_to_its_requests_page_by_page(api: Api, month: Month) -> None:
    path = f"/account/invoices/{month.invoice.number}/lines/3/events"
    page = api.get(f"{path}?limit=2").json()
    seen = page["events"]
    while page["next"]:
        assert len(page["events"]) == 2
        page = api.get(f"{path}?limit=2&after={page['next']}").json()
        seen += page["events"]
    assert [event["id"] for event in seen] == sorted(str(usage.id) for usage in month.usages)
    assert sum(event["text_tokens"] for event in seen) == 510
    assert seen[0]["stored_at"] == "2026-10-05T00:00:00+00:00"


def test_a_line_expands_to_csv_with_a_link_to_the_next_page(
    api: Api, month: Month, settings: Settings
) -> None:
    path = f"/account/invoices/{month.invoice.number}/lines/3/events.csv"
    whole = api.get(path)
    assert "Link" not in whole
    assert whole["Content-Type"] == "text/csv; charset=utf-8"
    first = api.get(f"{path}?limit=3")
    next_path = first["Link"].removeprefix(f"<{settings.PUBLIC_URL}").removesuffix('>; rel="next"')
    second = api.get(next_path)
    assert "Link" not in second
    header, *rest = second.content.decode().splitlines(keepends=True)
    assert first.content.decode() + "".join(rest) == whole.content.decode()
    assert whole.content.decode().startswith(header)


def test_a_line_that_is_no_line_of_tokens_has_no_requests(api: Api, month: Month) -> None:
    answer = api.get(f"/account/invoices/{month.invoice.number}/lines/1/events")
    assert answer.json() == {"events": [], "next": None}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=0", "limit must be an integer from 1 to 20000"),
        ("limit=20001", "limit must be an integer from 1 to 20000"),
        ("limit=x", "limit must be an integer from 1 to 20000"),
        ("after=5", "after must be the id of a request, a UUID"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".csv"])
def test_a_page_that_cannot_be_is_refused_by_name(
    api: Api, month: Month, query: str, message: str, ending: str
) -> None:
    path = f"/account/invoices/{month.invoice.number}/lines/3/events{ending}"
    answer = api.get(f"{path}?{query}")
    assert (answer.status_code, answer.json()["message"]) == (422, message)


def test_the_documents_are_files_named_after_the_invoice(api: Api, month: Month) -> None:
    number = month.invoice.number
    pdf = api.get(f"/account/invoices/{number}.pdf")
    assert pdf.content.startswith(b"%PDF-")
    assert pdf["Content-Type"] == "application/pdf"
    assert pdf["Content-Disposition"] == f'attachment; filename="invoice-{number}.pdf"'
    rows = list(
        csv.DictReader(io.StringIO(api.get(f"/account/invoices/{number}.csv").content.decode()))
    )
    assert len(rows) == 6
    draft = api.get("/account/invoices").json()[0]
    answer = api.get(f"/account/invoices/{draft['id']}.csv")
    assert answer["Content-Disposition"] == 'attachment; filename="invoice-draft-2026-11.csv"'


def test_an_export_verifies_with_the_key_that_is_served(api: Api, month: Month) -> None:
    path = f"/account/invoices/{month.invoice.number}"
    key = Api(token="nobody's").get("/invoice-signing-key").json()
    text = api.get(f"{path}/lines/3/events.csv").content.decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    found = list(load_verifier().verify(api.get(f"{path}/export").json(), key, {3: rows}))
    assert found[-1] == "Line 3 is made of the 5 rows given."


def test_a_draft_cannot_be_exported(api: Api, month: Month) -> None:
    draft = api.get("/account/invoices").json()[0]
    answer = api.get(f"/account/invoices/{draft['id']}/export")
    assert answer.status_code == 422
    assert "once it is final" in answer.json()["message"]


def test_without_a_signing_key_the_export_says_so(
    api: Api, month: Month, settings: Settings
) -> None:
    settings.INVOICE_SIGNING_KEY = ""
    for path in (f"/account/invoices/{month.invoice.number}/export", "/invoice-signing-key"):
        answer = api.get(path)
        assert answer.status_code == 503
        assert "INVOICE_SIGNING_KEY" in answer.json()["message"]


PARTS = ["", ".pdf", ".csv", "/export", "/lines", "/lines/3/events", "/lines/3/events.csv"]


@pytest.mark.parametrize("part", PARTS)
def test_somebody_elses_invoice_is_not_found(stranger: Api, month: Month, part: str) -> None:
    draft = Invoice.objects.filter(customer_id=month.customer_id, number=None)
    identities = [month.invoice.number, month.invoice.id, *draft.values_list("id", flat=True)]
    for identity in identities:
        answer = stranger.get(f"/account/invoices/{identity}{part}")
        assert answer.status_code == 404
        assert answer.json()["resource"] == "invoice"


@pytest.mark.parametrize("identity", ["0", "99", "-1", "x", "9" * 30, "%00", "²"])
@pytest.mark.parametrize("part", PARTS)
def test_an_unknown_invoice_is_not_found(api: Api, month: Month, identity: str, part: str) -> None:
    assert api.get(f"/account/invoices/{identity}{part}").status_code == 404


@pytest.mark.parametrize("line", ["0", "7", "x", "-1", "9" * 30, "²"])
def test_an_unknown_line_is_not_found(api: Api, month: Month, line: str) -> None:
    for ending in ("", ".csv"):
        path = f"/account/invoices/{month.invoice.number}/lines/{line}/events{ending}"
        answer = api.get(path)
        assert (answer.status_code, answer.json()["resource"]) == (404, "invoice_line")


def test_an_account_without_anything_has_no_invoices(stranger: Api, month: Month) -> None:
    assert find_account("stranger@example.com") is not None
    assert stranger.get("/account/invoices").json() == []


@pytest.mark.parametrize("path", ["", "/1", "/1.pdf", "/1.csv", "/1/export", "/1/lines"])
def test_an_invoice_is_for_those_who_have_a_token(path: str, month: Month) -> None:
    assert Api(token="wrong").get(f"/account/invoices{path}").status_code == 401
