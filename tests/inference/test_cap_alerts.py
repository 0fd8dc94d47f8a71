"""A hard budget that refuses a request is told of, once, though nothing was spent."""

import uuid
from collections.abc import Awaitable, Callable

import httpx
import pytest
from django.db import OperationalError

from billing.budgets import BudgetTerms, create_budget
from billing.models import Budget, BudgetAlert, Notification
from inference import authentication, cap_alerts
from inference.database import run_in_database_thread
from tests.inference.conftest import Attach, Attachment

BODY = {"model": "all-minilm-l6-v2", "input": "hello"}

Refused = Callable[[], Awaitable[None]]


@pytest.fixture
async def capped(attach: Attach) -> Attachment:
    """An attachment that may spend nothing."""
    attachment = await attach()

    def cap() -> None:
        create_budget(
            payer(attachment),
            scope="attachment",
            scope_id=str(attachment.attachment_id),
            terms=BudgetTerms(limit_microunits=0, is_hard=True, email="a@example.com"),
        )

    await run_in_database_thread(cap)
    authentication._cache.clear()
    return attachment


def payer(attachment: Attachment) -> uuid.UUID:
    found = authentication._find_caller(attachment.key)
    assert found is not None
    return found.customer_id


@pytest.fixture
def refused(client: httpx.AsyncClient, capped: Attachment) -> Refused:
    async def refused() -> None:
        headers = {"authorization": f"Bearer {capped.key}"}
        answer = await client.post("/v1/embeddings", json=BODY, headers=headers)
        assert answer.status_code == 402, answer.text

    return refused


async def told() -> tuple[int, int]:
    return await run_in_database_thread(
        lambda: (BudgetAlert.objects.count(), Notification.objects.count())
    )


async def test_the_first_refusal_is_told_of_and_no_other(refused: Refused) -> None:
    for _ in range(3):
        await refused()
    assert await told() == (1, 1)


async def test_other_processes_tell_of_it_no_more(refused: Refused) -> None:
    await refused()
    cap_alerts._told.clear()
    await refused()
    assert await told() == (1, 1)


async def test_a_database_that_fails_is_asked_again(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(cap_alerts, "tell_cap_reached", fail)
        await refused()
    assert await told() == (0, 0)
    await refused()
    assert await told() == (1, 1)


async def test_a_soft_budget_refuses_nothing_and_is_not_told_of_by_it(
    client: httpx.AsyncClient, capped: Attachment, worker: object
) -> None:
    await run_in_database_thread(lambda: Budget.objects.update(is_hard=False))
    authentication._cache.clear()
    headers = {"authorization": f"Bearer {capped.key}"}
    answer = await client.post("/v1/embeddings", json=BODY, headers=headers)
    assert answer.status_code == 200, answer.text
    assert await told() == (0, 0)
