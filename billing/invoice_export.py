"""A final invoice as signed JSON, which its customer can check without asking anybody.

Signed with Ed25519 (RFC 8032) is the canonical JSON of `invoice`: keys sorted, no spaces, UTF-8,
numbers only as integers. bin/verify_invoice.py reads it back.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from billing.invoice_documents import LINE_COLUMNS
from billing.models import Invoice

FORMAT = "annex-invoice/1"
ALGORITHM = "ed25519"
KEY_MIN_CHARACTERS = 32


class InvoiceNotSigned(Exception):
    """A draft changes with the next request, so it is not signed."""


class NoSigningKey(Exception):
    """This deployment has no INVOICE_SIGNING_KEY, or one that is too short."""


def export_invoice(invoice: Invoice, issuer: str) -> dict[str, object]:
    """`{"invoice", "signature"}`; the same at each call. Raises InvoiceNotSigned, NoSigningKey."""
    if invoice.state != Invoice.State.FINAL:
        raise InvoiceNotSigned("a draft is not signed: export the invoice once it is final")
    content = _content(invoice, issuer)
    key = _private_key(settings.INVOICE_SIGNING_KEY)
    signature = {
        "algorithm": ALGORITHM,
        "key_id": _key_id(key),
        "value": base64.b64encode(key.sign(canonical_json(content))).decode("ascii"),
    }
    return {"invoice": content, "signature": signature}


def public_key() -> dict[str, str]:
    """The key that exports are checked with, in base64. Raises NoSigningKey."""
    key = _private_key(settings.INVOICE_SIGNING_KEY)
    return {
        "algorithm": ALGORITHM,
        "key_id": _key_id(key),
        "public_key": base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii"),
    }


def canonical_json(content: Mapping[str, object]) -> bytes:
    """One spelling for one content."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _content(invoice: Invoice, issuer: str) -> dict[str, object]:
    lines = invoice.lines.order_by("position").values(*LINE_COLUMNS)
    return {
        "format": FORMAT,
        "issuer": issuer,
        "id": str(invoice.id),
        "number": invoice.number,
        "customer": {
            "id": str(invoice.customer_id),
            "email": invoice.customer_email,
            "name": invoice.customer_name,
        },
        "currency": invoice.currency,
        "period_start": invoice.period_start.isoformat(),
        "period_end": invoice.period_end.isoformat(),
        "finalized_at": invoice.finalized_at and invoice.finalized_at.isoformat(),
        "charges_microunits": invoice.charges_microunits,
        "credits_microunits": invoice.credits_microunits,
        "total_microunits": invoice.total_microunits,
        "lines": [{name: plain(value) for name, value in line.items()} for line in lines],
    }


def plain(value: object) -> object:
    """As JSON has it: a time in ISO 8601, an id as text."""
    match value:
        case datetime():
            return value.isoformat()
        case UUID():
            return str(value)
        case _:
            return value


@lru_cache(maxsize=2)
def _private_key(secret: str) -> Ed25519PrivateKey:
    """Any text of KEY_MIN_CHARACTERS or more gives a key, so a platform can generate it."""
    if len(secret) < KEY_MIN_CHARACTERS:
        raise NoSigningKey(
            f"invoices cannot be signed here: INVOICE_SIGNING_KEY needs {KEY_MIN_CHARACTERS} "
            "characters or more"
        )
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"annex invoice signature")
    return Ed25519PrivateKey.from_private_bytes(derivation.derive(secret.encode()))


def _key_id(key: Ed25519PrivateKey) -> str:
    """The first 16 hex digits of the SHA-256 of the public key."""
    return hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()[:16]
