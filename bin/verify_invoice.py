"""Checks an exported invoice offline: its signature, its arithmetic, the requests behind its lines.

    python3 verify_invoice.py INVOICE.json --key KEY.json [--events LINE=EVENTS.csv …]

INVOICE.json is what /account/invoices/NUMBER/export answers, KEY.json what /invoice-signing-key
does; keep the key from an earlier day. EVENTS.csv is the line's /events.csv; of a line that has
several pages, give each with its own --events, in their order. Exit status: 0 all is right,
1 something is not, 2 a file cannot be read.

It needs Python 3.11 and the package cryptography, nothing of Annex.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "annex-invoice/1"
TOKENS_PER_PRICE = 1_000_000
SECONDS_PER_HOUR = 3_600
# The column of the events that a line of tokens is the sum of.
TOKEN_COLUMNS = {"text_tokens": "text_tokens", "image_tokens": "image_tokens"}
DIGEST_COLUMNS = ("id", "text_tokens", "image_tokens", "cost_picounits")

Line = Mapping[str, Any]


class Wrong(Exception):
    """What does not hold, in one line."""


class Unreadable(Exception):
    """A file that is not what it should be, in one line."""


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        export, key = read_json(options.invoice), read_json(options.key)
        events = read_events(options.events)
        for finding in verify(export, key, events):
            print(finding)
    except Wrong as wrong:
        print(f"WRONG: {wrong}", file=sys.stderr)
        return 1
    except Unreadable as unreadable:
        print(f"cannot check: {unreadable}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Check an exported invoice offline.")
    parser.add_argument("invoice", type=Path, help="what /account/invoices/NUMBER/export answered")
    parser.add_argument(
        "--key", type=Path, required=True, help="what /invoice-signing-key answered"
    )
    parser.add_argument(
        "--events",
        action="append",
        default=[],
        metavar="LINE=FILE",
        help="a page of the CSV of a line's requests; can be repeated",
    )
    return parser


def verify(
    export: Mapping[str, Any], key: Mapping[str, Any], events: Mapping[int, Sequence[Line]]
) -> Iterator[str]:
    """What was found right, sentence by sentence. Raises Wrong at the first thing that is not."""
    try:
        invoice = export["invoice"]
        check_signature(invoice, export["signature"], key)
        yield f"The signature of invoice {invoice['number']} is that of key {key['key_id']}."
        if invoice["format"] != FORMAT:
            raise Unreadable(f"the format is {invoice['format']!r}; this reads {FORMAT!r}")
        lines = invoice["lines"]
        for line in lines:
            check_amount(line, invoice)
        yield f"The amounts of {len(lines)} lines follow from their quantities and prices."
        check_totals(invoice)
        yield f"Charges, credits and total add up to {invoice['total_microunits']} micro-units."
        by_position = {line["position"]: line for line in lines}
        for position, rows in events.items():
            if position not in by_position:
                raise Wrong(f"the invoice has no line {position}")
            check_events(by_position[position], rows)
            yield f"Line {position} is made of the {len(rows)} rows given."
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"a field is missing or malformed: {error!r}") from error


def check_signature(
    invoice: Mapping[str, Any], signature: Mapping[str, Any], key: Mapping[str, Any]
) -> None:
    for name in ("algorithm", "key_id"):
        if signature[name] != key[name]:
            raise Wrong(f"the {name} is {signature[name]!r}, the key's is {key[name]!r}")
    public_bytes = base64.b64decode(key["public_key"], validate=True)
    if hashlib.sha256(public_bytes).hexdigest()[:16] != key["key_id"]:
        raise Wrong(f"the key file's public key is not that of its key_id {key['key_id']!r}")
    canonical = json.dumps(invoice, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    public_key = Ed25519PublicKey.from_public_bytes(public_bytes)
    try:
        public_key.verify(base64.b64decode(signature["value"], validate=True), canonical.encode())
    except InvalidSignature:
        raise Wrong("the signature does not match: the invoice was changed") from None


def check_amount(line: Line, invoice: Mapping[str, Any]) -> None:
    """Each line is rounded once, half to even, to micro-units."""
    match line["kind"]:
        case "text_tokens" | "image_tokens":
            cost = line["quantity"] * line["unit_price_microunits"]
            expected = _round(cost, TOKENS_PER_PRICE)
        case "flat":
            whole_s = _offset_s(invoice["period_end"], invoice)
            expected = _prorated(line, invoice, whole_s)
        case "worker_hours":
            expected = _prorated(line, invoice, SECONDS_PER_HOUR)
        case "included":
            expected = -_covered(line, invoice["lines"])
        case "credit":
            return  # an amount, not the product of anything
        case kind:
            raise Unreadable(f"line {line['position']} is of the unknown kind {kind!r}")
    if line["amount_microunits"] != expected:
        raise Wrong(
            f"line {line['position']} ({line['description']}) says {line['amount_microunits']} "
            f"micro-units; quantity and price come to {expected}"
        )


def _prorated(line: Line, invoice: Mapping[str, Any], whole_s: int) -> int:
    """Both ends are rounded on their own, in seconds from the period's start."""
    start, end = _offset_s(line["start_at"], invoice), _offset_s(line["end_at"], invoice)
    count, rest = divmod(line["quantity"], end - start) if end > start else (0, line["quantity"])
    if rest:
        raise Wrong(
            f"line {line['position']} says {line['quantity']} seconds, which {end - start} from "
            f"{line['start_at']} to {line['end_at']} does not divide"
        )
    price: int = line["unit_price_microunits"] * count
    return _round(price * end, whole_s) - _round(price * start, whole_s)


def _covered(included: Line, lines: Sequence[Line]) -> int:
    """What the included tokens would have cost: the dearest of the resource's plan first."""
    same = [
        line
        for line in lines
        if line["kind"] in TOKEN_COLUMNS
        and line["quantity"] > 0
        and (line["resource_id"], line["plan_name"])
        == (included["resource_id"], included["plan_name"])
    ]
    left: int = included["quantity"]
    cost = 0
    for line in sorted(same, key=lambda line: -line["unit_price_microunits"]):
        tokens = min(left, line["quantity"])
        left -= tokens
        cost += tokens * line["unit_price_microunits"]
    if left:
        raise Wrong(
            f"line {included['position']} includes {included['quantity']} tokens, {left} more than "
            "the lines of that resource and plan have"
        )
    amount: int = sum(line["amount_microunits"] for line in same)
    return min(_round(cost, TOKENS_PER_PRICE), amount)


def _offset_s(moment: str, invoice: Mapping[str, Any]) -> int:
    start_at = datetime.fromisoformat(invoice["period_start"])
    return int((datetime.fromisoformat(moment) - start_at).total_seconds())


def _round(numerator: int, denominator: int) -> int:
    return round(Fraction(numerator, denominator))


def check_totals(invoice: Mapping[str, Any]) -> None:
    sums = {"charges": 0, "credits": 0}
    for line in invoice["lines"]:
        is_credit = line["kind"] == "credit"
        sums["credits" if is_credit else "charges"] += line["amount_microunits"]
    expected = {
        "charges_microunits": sums["charges"],
        "credits_microunits": -sums["credits"],
        "total_microunits": sums["charges"] + sums["credits"],
    }
    for name, amount in expected.items():
        if invoice[name] != amount:
            raise Wrong(f"{name} says {invoice[name]}; the lines come to {amount}")


def check_events(line: Line, rows: Sequence[Line]) -> None:
    position = line["position"]
    if line["kind"] not in TOKEN_COLUMNS:
        raise Wrong(f"line {position} is no line of tokens: it stands for no requests")
    if len(rows) != line["events_count"]:
        raise Wrong(f"line {position} counts {line['events_count']} rows; {len(rows)} were given")
    tokens = sum(int(row[TOKEN_COLUMNS[line["kind"]]]) for row in rows)
    if tokens != line["quantity"]:
        raise Wrong(f"line {position} says {line['quantity']} tokens; the rows come to {tokens}")
    digest = hashlib.sha256()
    for row in rows:
        digest.update((",".join(row[name] for name in DIGEST_COLUMNS) + "\n").encode())
    if digest.hexdigest() != line["events_sha256"]:
        raise Wrong(
            f"the rows of line {position} have the digest {digest.hexdigest()}, the invoice says "
            f"{line['events_sha256']}"
        )


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"{path}: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Programs differ in which of two equal names they read, so a signed text has none."""
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("an object has a name twice")
    return dict(pairs)


def read_events(arguments: Sequence[str]) -> dict[int, list[Line]]:
    """The rows by line, of one or more pages each."""
    rows: dict[int, list[Line]] = {}
    for argument in arguments:
        position, equals, path = argument.partition("=")
        if not (position.isascii() and position.isdigit() and equals):
            raise Unreadable(f"--events {argument}: write it like 1=line-1.csv")
        try:
            with Path(path).open(encoding="utf-8", newline="") as file:
                rows.setdefault(int(position), []).extend(csv.DictReader(file))
        except (OSError, ValueError, csv.Error) as error:
            raise Unreadable(f"{path}: {error}") from error
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
