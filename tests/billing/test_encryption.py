import pytest
from cryptography.fernet import InvalidToken
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from addon.platform.models import AddonService
from billing.encryption import decrypt, encrypt

OLD = "an old key, with words and ümlauts in it, 0123"
NEW = "b" * 32


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_what_was_encrypted_is_decrypted(text: str) -> None:
    assert decrypt(encrypt(text)) == text


def test_equal_texts_have_different_ciphertexts() -> None:
    assert encrypt("secret") != encrypt("secret")


def test_a_key_in_front_encrypts_and_the_old_one_still_decrypts(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = [OLD]
    by_old = encrypt("secret")
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    assert decrypt(by_old) == "secret"
    by_new = encrypt("secret")
    settings.ENCRYPTION_KEYS = [NEW]
    assert decrypt(by_new) == "secret"
    with pytest.raises(InvalidToken):
        decrypt(by_old)


def test_a_short_key_is_refused_by_its_position_and_not_shown(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = [NEW, "short-and-secret"]
    with pytest.raises(ImproperlyConfigured, match=r"Key 2 .* 16 characters.* 32") as raised:
        encrypt("secret")
    assert "short-and-secret" not in str(raised.value)


def test_no_key_at_all_is_refused(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = []
    with pytest.raises(ImproperlyConfigured, match="empty"):
        encrypt("secret")


@pytest.mark.django_db
def test_the_database_holds_ciphertext_and_python_plain_text() -> None:
    row = AddonService.objects.create(name="fast-db", base_url="http://db", password="plain")
    with connection.cursor() as cursor:
        cursor.execute("SELECT password FROM platform_addonservice")
        (stored,) = cursor.fetchone()
    assert "plain" not in stored
    assert decrypt(stored) == "plain"
    row.refresh_from_db()
    assert row.password == "plain"


@pytest.mark.django_db
def test_an_encrypted_column_cannot_be_looked_up() -> None:
    with pytest.raises(FieldError, match="encrypted"):
        AddonService.objects.filter(password="plain").exists()
