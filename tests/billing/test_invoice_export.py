"""An export verifies offline, by the program that customers get, and any change of it does not."""

import base64
import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pytest_django import Settings

from billing import invoice_export
from billing.invoice_documents import events_csv
from billing.invoice_export import (
    InvoiceNotSigned,
    NoSigningKey,
    canonical_json,
    export_invoice,
    public_key,
)
from billing.invoices import expand
from billing.metering import Usage
from billing.models import Customer, Invoice
from tests.billing.invoicing import VERIFIER, Month, invoiced_month, load_verifier

pytestmark = pytest.mark.django_db

ISSUER = "https://annex.example.com"
verify_invoice = load_verifier()

Export = dict[str, Any]
Change = Callable[[Export], None]


@pytest.fixture
def month(new_usage: Callable[..., Usage]) -> Month:
    return invoiced_month(new_usage)


@pytest.fixture
def export(month: Month) -> Export:
    return export_invoice(month.invoice, ISSUER)


@pytest.fixture
def files(month: Month, tmp_path: Path) -> Path:
    """A folder as a customer has it: the key, and the CSV of a line's requests."""
    (tmp_path / "key.json").write_text(json.dumps(public_key()))
    rows = events_csv(expand(month.invoice.lines.get(kind="text_tokens")))
    (tmp_path / "events.csv").write_text(rows)
    return tmp_path


@pytest.fixture
def check(files: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Export], tuple[int, str]]:
    """Verify an export with the requests of its line of texts, the third."""

    def check(export: Export) -> tuple[int, str]:
        path = files / "invoice.json"
        path.write_text(json.dumps(export, indent=2))
        arguments = [str(path), "--key", str(files / "key.json")]
        status = verify_invoice.main([*arguments, "--events", f"3={files / 'events.csv'}"])
        said = capsys.readouterr()
        return status, said.out + said.err

    return check


def signed_again(export: Export, change: Change) -> Export:
    """What an issuer that errs would send: changed, with a right signature."""
    changed = deepcopy(export)
    change(changed["invoice"])
    key = invoice_export._private_key("an-invoice-signing-key-of-the-tests")
    signed = base64.b64encode(key.sign(canonical_json(changed["invoice"])))
    changed["signature"]["value"] = signed.decode()
    return changed


def test_an_export_verifies_with_nothing_but_files(export: Export, files: Path) -> None:
    (files / "invoice.json").write_text(json.dumps(export))
    arguments = ["invoice.json", "--key", "key.json", "--events", "3=events.csv"]
    done = subprocess.run(
        [sys.executable, "-I", VERIFIER, *arguments],
        cwd=files,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    total = export["invoice"]["total_microunits"]
    assert done.stdout.splitlines() == [
        f"The signature of invoice 1 is that of key {export['signature']['key_id']}.",
        "The amounts of 6 lines follow from their quantities and prices.",
        f"Charges, credits and total add up to {total} micro-units.",
        "Line 3 is made of the 5 rows given.",
    ]


def test_an_export_is_the_same_each_time(month: Month, export: Export) -> None:
    Customer.objects.update(email="other@example.com", name="Other")
    assert export_invoice(Invoice.objects.get(id=month.invoice.id), ISSUER) == export


def _set(name: str, value: object) -> Change:
    return lambda content: content.update({name: value})


def _set_of_line(position: int, name: str, value: object) -> Change:
    return lambda content: content["lines"][position - 1].update({name: value})


@pytest.mark.parametrize(
    "change",
    [
        _set("total_microunits", 1),
        _set("number", 2),
        _set_of_line(1, "description", "something else"),
        _set_of_line(3, "events_sha256", "0" * 64),
        lambda content: content["lines"].pop(),
    ],
)
def test_whatever_is_changed_breaks_the_signature(
    export: Export, check: Callable[[Export], tuple[int, str]], change: Change
) -> None:
    change(export["invoice"])
    wrong = "WRONG: the signature does not match: the invoice was changed\n"
    assert check(export) == (1, wrong)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (
            _set_of_line(1, "amount_microunits", 1),
            "line 1 (heroku-inference:full: monthly price) says 1 micro-units; quantity and price "
            "come to 15162645",
        ),
        (
            _set_of_line(2, "quantity", 431_999),
            "line 2 says 431999 seconds, which 215999 from 2026-10-19T12:00:01+00:00 to "
            "2026-10-22T00:00:00+00:00 does not divide",
        ),
        (
            _set_of_line(3, "unit_price_microunits", 240_000),
            "line 3 (cohere-embed-v4: tokens of texts) says 61 micro-units; quantity and price "
            "come to 122",
        ),
        (
            _set_of_line(5, "amount_microunits", -9),
            "line 5 (heroku-inference:full: included tokens) says -9 micro-units; quantity and "
            "price come to -10",
        ),
        (
            _set_of_line(5, "quantity", 521),
            "line 5 includes 521 tokens, 1 more than the lines of that resource and plan have",
        ),
        (
            _set_of_line(6, "amount_microunits", -4_999_999),
            "credits_microunits says 5000000; the lines come to 4999999",
        ),
        (_set("total_microunits", 7), "total_microunits says 7; the lines come to 362961068"),
        (_set_of_line(3, "events_count", 6), "line 3 counts 6 rows; 5 were given"),
    ],
)
def test_a_signed_invoice_that_does_not_add_up_is_wrong_too(
    export: Export,
    check: Callable[[Export], tuple[int, str]],
    change: Change,
    wrong: str,
) -> None:
    assert check(signed_again(export, change)) == (
        1, said_before(wrong) + f"WRONG: {wrong}\n"
    )  # fmt: skip


def said_before(wrong: str) -> str:
    """What is right before that is found is said all the same."""
    key_id = public_key()["key_id"]
    said = [f"The signature of invoice 1 is that of key {key_id}.\n"]
    if wrong.startswith("credits"):
        said.append("The amounts of 6 lines follow from their quantities and prices.\n")
    if wrong.startswith("total"):
        said.append("The amounts of 6 lines follow from their quantities and prices.\n")
    if "rows; 5" in wrong:
        said.append("The amounts of 6 lines follow from their quantities and prices.\n")
        said.append("Charges, credits and total add up to 362961068 micro-units.\n")
    return "".join(said)


def change_rows(files: Path, change: Callable[[list[dict[str, str]]], object]) -> None:
    path = files / "events.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue())


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda rows: rows.pop(), "line 3 counts 5 rows; 4 were given"),
        (
            lambda rows: rows[0].update(text_tokens="101"),
            "line 3 says 510 tokens; the rows come to 511",
        ),
        (lambda rows: rows.reverse(), "the rows of line 3 have the digest "),
        (lambda rows: rows[0].update(cost_picounits="1"), "the rows of line 3 have the digest "),
        (lambda rows: rows[0].update(id=rows[1]["id"]), "the rows of line 3 have the digest "),
    ],
)
def test_other_rows_than_those_that_were_invoiced_are_wrong(
    export: Export,
    files: Path,
    check: Callable[[Export], tuple[int, str]],
    change: Callable[[list[dict[str, str]]], object],
    wrong: str,
) -> None:
    change_rows(files, change)
    status, said = check(export)
    assert status == 1
    assert f"WRONG: {wrong}" in said


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (1, "line 1 is no line of tokens: it stands for no requests"),
        (7, "the invoice has no line 7"),
        (4, "line 4 says 10 tokens; the rows come to 9"),
    ],
)
def test_rows_are_checked_against_their_own_line(
    export: Export, files: Path, capsys: pytest.CaptureFixture[str], line: int, wrong: str
) -> None:
    change_rows(files, lambda rows: rows[-1].update(image_tokens="3"))
    (files / "invoice.json").write_text(json.dumps(export))
    arguments = [str(files / "invoice.json"), "--key", str(files / "key.json")]
    assert verify_invoice.main([*arguments, "--events", f"{line}={files / 'events.csv'}"]) == 1
    assert capsys.readouterr().err == f"WRONG: {wrong}\n"


def test_pages_of_rows_are_put_together(
    month: Month, export: Export, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = expand(month.invoice.lines.get(kind="text_tokens"))
    first = list(events.values_list("id", flat=True))[1]
    (files / "1.csv").write_text(events_csv(events.filter(id__lte=first)))
    (files / "2.csv").write_text(events_csv(events.filter(id__gt=first)))
    (files / "invoice.json").write_text(json.dumps(export))
    pages = ["--events", f"3={files / '1.csv'}", "--events", f"3={files / '2.csv'}"]
    arguments = [str(files / "invoice.json"), "--key", str(files / "key.json"), *pages]
    assert verify_invoice.main(arguments) == 0
    assert "Line 3 is made of the 5 rows given." in capsys.readouterr().out


def test_another_key_does_not_verify(
    export: Export, files: Path, check: Callable[[Export], tuple[int, str]]
) -> None:
    raw = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    key = {**public_key(), "public_key": base64.b64encode(raw).decode()}
    (files / "key.json").write_text(json.dumps(key))
    status, said = check(export)
    assert status == 1
    assert "public key is not that of its key_id" in said
    (files / "key.json").write_text(json.dumps({**key, "key_id": "0" * 16}))
    status, said = check(export)
    assert (status, "WRONG: the key_id is" in said) == (1, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot check: "),
        ("[]", "cannot check: a field is missing or malformed"),
        ('{"invoice": {"number": 1, "number": 2}}', "an object has a name twice"),
        ("[" * 100_000, "cannot check: "),
    ],
)
def test_what_is_no_export_cannot_be_checked(
    files: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (files / "invoice.json").write_text(text)
    arguments = [str(files / "invoice.json"), "--key", str(files / "key.json")]
    assert verify_invoice.main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_page_that_is_no_text_cannot_be_checked(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "invoice.json").write_text("{}")
    (files / "events.csv").write_bytes(b"id\n\xff\n")
    arguments = [str(files / "invoice.json"), "--key", str(files / "key.json")]
    assert verify_invoice.main([*arguments, "--events", f"1={files / 'events.csv'}"]) == 2
    assert "cannot check: " in capsys.readouterr().err


def test_a_page_is_given_with_its_line(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "invoice.json").write_text("{}")
    arguments = [str(files / "invoice.json"), "--key", str(files / "key.json")]
    assert verify_invoice.main([*arguments, "--events", "events.csv"]) == 2
    assert "write it like 1=line-1.csv" in capsys.readouterr().err


def test_a_draft_is_not_signed(month: Month) -> None:
    with pytest.raises(InvoiceNotSigned, match="once it is final"):
        export_invoice(Invoice(state=Invoice.State.DRAFT, customer_id=month.customer_id), ISSUER)


@pytest.mark.parametrize("secret", ["", "too-short"])
def test_without_a_key_nothing_is_signed(month: Month, settings: Settings, secret: str) -> None:
    settings.INVOICE_SIGNING_KEY = secret
    with pytest.raises(NoSigningKey, match="INVOICE_SIGNING_KEY needs 32 characters"):
        export_invoice(month.invoice, ISSUER)
