import string
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from addon.provider import credentials, provisioning
from addon.provider.credentials import Identity, find_identity, is_well_formed, new_key
from addon.provider.models import Attachment, Credential, Resource

NOW = timezone.now()


@pytest.fixture
def attachment(db: None) -> Attachment:
    resource = Resource.objects.create(
        id=uuid.uuid4(), name="inference-acute-10001", plan_slug="standard", region="eu",
        request_digest="d", created_at=NOW,
    )  # fmt: skip
    return Attachment.objects.create(
        id=uuid.uuid4(), resource=resource, name="EMBEDDING", app_name="shop", created_at=NOW
    )


def test_a_key_has_the_prefix_43_characters_of_secret_and_a_checksum() -> None:
    key = new_key()
    assert key.startswith("inf_")
    assert len(key) == 4 + 43 + 6
    assert set(key[4:]) <= set(string.ascii_letters + string.digits)
    assert is_well_formed(key)
    assert new_key() != key


@given(position=st.integers(0, 52), character=st.characters())
def test_a_mistyped_character_makes_a_key_malformed(position: int, character: str) -> None:
    key = new_key()
    mistyped = key[:position] + character + key[position + 1 :]
    assert is_well_formed(mistyped) == (mistyped == key)


def test_a_key_of_another_length_is_malformed() -> None:
    key = new_key()
    for other in (key[:-1], key + "0", ""):
        assert not is_well_formed(other)


def test_a_key_identifies_its_attachment_in_one_query(
    attachment: Attachment, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    credential = credentials.issue(attachment, NOW)
    with django_assert_num_queries(1):
        identity = find_identity(credential.key)
    assert identity == Identity(
        credential_id=credential.id,
        attachment_id=attachment.id,
        attachment_name="EMBEDDING",
        app_name="shop",
        resource_id=attachment.resource.id,
        service_name="heroku-inference",
        plan_slug="standard",
        region="eu",
        options={},
        has_log_stream=False,
    )


def test_a_malformed_key_costs_no_query(
    db: None, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        assert find_identity("inf_" + "0" * 49) is None


def test_a_well_formed_key_that_was_never_issued_is_nobodys(db: None) -> None:
    assert find_identity(new_key()) is None


def test_two_keys_of_an_attachment_are_live_together(attachment: Attachment) -> None:
    first = credentials.issue(attachment, NOW)
    second = credentials.issue(attachment, NOW + timedelta(seconds=1))
    identities = [find_identity(first.key), find_identity(second.key)]
    assert None not in identities
    assert credentials.newest_key(attachment) == second.key
    assert identities[0] == replace(identities[1], credential_id=first.id)  # type: ignore[type-var]


def test_revoked_keys_identify_nobody(attachment: Attachment) -> None:
    key = credentials.issue(attachment, NOW).key
    credentials.revoke(attachment, NOW)
    assert find_identity(key) is None
    assert credentials.newest_key(attachment) is None


def test_revoking_again_keeps_the_first_time(attachment: Attachment) -> None:
    credential = credentials.issue(attachment, NOW)
    credentials.revoke(attachment, NOW)
    credentials.revoke(attachment, NOW + timedelta(hours=1))
    credential.refresh_from_db()
    assert credential.revoked_at == NOW


def test_keys_of_a_detached_attachment_identify_nobody(attachment: Attachment) -> None:
    key = credentials.issue(attachment, NOW).key
    Attachment.objects.update(detached_at=NOW)
    assert find_identity(key) is None


def test_keys_of_a_deprovisioned_resource_identify_nobody(attachment: Attachment) -> None:
    key = credentials.issue(attachment, NOW).key
    Resource.objects.update(deprovisioned_at=NOW)
    assert find_identity(key) is None


def test_only_the_digest_and_a_hint_are_stored_in_the_clear(attachment: Attachment) -> None:
    key = credentials.issue(attachment, NOW).key
    stored = Credential.objects.values("digest", "hint").get()
    assert key not in stored["digest"]
    assert stored["hint"] == key[:8]


def test_no_key_is_in_the_repr_of_what_was_provisioned() -> None:
    provisioned = provisioning.Provisioned(
        resource_id=uuid.uuid4(), config={"INFERENCE_KEY": new_key()}, message=""
    )
    assert "inf_" not in repr(provisioned)
