"""Secrets at rest: a text column that holds ciphertext.

The first of `settings.ENCRYPTION_KEYS` encrypts, all of them decrypt, so a key is rotated by
putting a new one in front and saving the rows again.
"""

import base64
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.expressions import Expression

KEY_MIN_CHARACTERS = 32


def encrypt(text: str) -> str:
    """Ciphertext as URL-safe base64; another one at every call."""
    return _cipher(tuple(settings.ENCRYPTION_KEYS)).encrypt(text.encode()).decode("ascii")


def decrypt(ciphertext: str) -> str:
    """Raises `cryptography.fernet.InvalidToken` when no configured key made `ciphertext`."""
    return _cipher(tuple(settings.ENCRYPTION_KEYS)).decrypt(ciphertext).decode()


@lru_cache(maxsize=8)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    if not keys:
        raise ImproperlyConfigured(
            f"ENCRYPTION_KEYS is empty: give at least one key of {KEY_MIN_CHARACTERS} characters"
        )
    return MultiFernet([_fernet(position, key) for position, key in enumerate(keys, start=1)])


def _fernet(position: int, key: str) -> Fernet:
    if len(key) < KEY_MIN_CHARACTERS:
        # The position and the length, never the key itself: this text reaches a log.
        raise ImproperlyConfigured(
            f"Key {position} of ENCRYPTION_KEYS has {len(key)} characters; "
            f"it needs at least {KEY_MIN_CHARACTERS}"
        )
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"annex encrypted column")
    return Fernet(base64.urlsafe_b64encode(derivation.derive(key.encode())))


if TYPE_CHECKING:
    _TextField = models.TextField[str, str]
else:
    _TextField = models.TextField


class EncryptedTextField(_TextField):
    """A text column that is ciphertext in the database and plain text in Python.

    Equal texts have different ciphertexts, so none can be looked up; keep a digest
    beside it to find a row by its secret.
    """

    def get_prep_value(self, value: str | None) -> str | None:
        return None if value is None else encrypt(str(value))

    def from_db_value(
        self, value: str | None, expression: Expression, connection: BaseDatabaseWrapper
    ) -> str | None:
        return None if value is None else decrypt(value)

    def get_lookup(self, lookup_name: str) -> type[models.Lookup[object]] | None:
        if lookup_name != "isnull":
            raise FieldError(f"{self.name} is encrypted and cannot be looked up by {lookup_name}")
        return super().get_lookup(lookup_name)
