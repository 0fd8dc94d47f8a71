"""Provisioning under concurrency, which HTTP tests cannot provoke reliably."""

import threading
import uuid
from collections.abc import Callable

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from addon.manifest import InvalidManifest
from addon.provider.manifest import own_manifest
from addon.provider.models import Attachment, Credential, Resource
from addon.provider.provisioning import (
    AttachmentRequest,
    Provisioned,
    ProvisionRequest,
    ResourceGone,
    attach,
    deprovision,
    provision,
)
from billing.plans import sync_plans

PARALLEL = 4  # as many as the tests' connection pool has


def request(resource_id: uuid.UUID, plan_slug: str = "standard") -> ProvisionRequest:
    return ProvisionRequest(
        uuid=resource_id,
        name="inference-acute-10001",
        plan_slug=plan_slug,
        region="amazon-web-services::us-east-1",
        options={},
        callback_url="",
        attachment=AttachmentRequest(id=resource_id, name="INFERENCE", app_name="shop"),
    )


def in_parallel(work: Callable[[], object]) -> list[object]:
    """What each of PARALLEL threads returned or raised; they start as one."""
    barrier = threading.Barrier(PARALLEL)
    results: list[object] = []

    def run() -> None:
        barrier.wait()
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - compared by the test
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(PARALLEL)]
    connection.close()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
def test_parallel_requests_of_one_uuid_make_one_resource_with_one_key() -> None:
    sync_plans()
    wanted = request(uuid.uuid4())
    results = in_parallel(lambda: provision(wanted, timezone.now()))
    assert all(isinstance(result, Provisioned) for result in results), results
    assert all(result == results[0] for result in results)
    assert Resource.objects.count() == Attachment.objects.count() == Credential.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_parallel_attaches_of_one_uuid_make_one_key() -> None:
    sync_plans()
    wanted = request(uuid.uuid4())
    provision(wanted, timezone.now())
    second = AttachmentRequest(id=uuid.uuid4(), name="SEARCH", app_name="shop")
    results = in_parallel(lambda: attach(wanted.uuid, second, timezone.now()))
    assert all(result == results[0] for result in results), results
    assert Credential.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_parallel_deprovisions_one_wins_and_the_others_are_told_gone() -> None:
    sync_plans()
    wanted = request(uuid.uuid4())
    provision(wanted, timezone.now())
    results = in_parallel(lambda: deprovision(wanted.uuid, timezone.now()))
    assert [type(result) for result in results if result is not None] == [
        ResourceGone
    ] * (PARALLEL - 1)  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("plan_slug", "model_id", "message"),
    [
        ("standard", "all-minilm-l6-v2", "for the model all-minilm-l6-v2, other models by"),
        ("cohere-embed-multilingual", "cohere-embed-multilingual", "cohere-embed-multilingual"),
        ("cohere-embed-v4", "cohere-embed-v4", "for the model cohere-embed-v4"),
    ],
)
def test_a_plan_sets_its_model_id_also_before_that_model_is_installed(
    plan_slug: str, model_id: str, message: str
) -> None:
    sync_plans()
    provisioned = provision(request(uuid.uuid4(), plan_slug), timezone.now())
    assert isinstance(provisioned, Provisioned)
    assert provisioned.config["INFERENCE_MODEL_ID"] == model_id
    assert message in provisioned.message
    assert ("other models" in provisioned.message) is (plan_slug == "standard")


def test_our_own_manifest_says_that_attachments_have_credentials() -> None:
    assert own_manifest().attachment_credentials


def test_a_wrong_name_of_our_service_is_refused_by_its_field(settings: Settings) -> None:
    settings.ADDON_SERVICE_NAME = "Not A Name"
    with pytest.raises(InvalidManifest, match="id must be"):
        own_manifest()
