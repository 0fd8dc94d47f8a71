"""`GET /metrics` is there where METRICS_KEY is set, and says what happened."""

import re
import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from billing.models import Notification, OutboxEntry, Reconciliation
from billing.notifications import queue_email
from inference import metrics_views
from inference.database import run_in_database_thread
from tests.inference.conftest import Attach

KEY = {"authorization": "Bearer scrape-me"}


@pytest.fixture(autouse=True)
def _metrics_are_on(settings: Settings, transactional_db: None) -> None:
    settings.METRICS_KEY = "scrape-me"


async def scrape(client: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    """The value of each sample, by its name and the values of its labels but `process`."""
    response = await client.get("/metrics", headers=KEY)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *(value for name, value in sample.labels.items() if name != "process")): (
            sample.value
        )
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_without_a_key_of_its_own_it_is_not_there(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    settings.METRICS_KEY = ""
    for headers in ({}, KEY, {"authorization": "Bearer "}):
        response = await client.get("/metrics", headers=headers)
        assert response.status_code == 404


async def test_only_its_key_is_answered(client: httpx.AsyncClient, attach: Attach) -> None:
    attachment = await attach()
    assert (await client.get("/metrics")).status_code == 401
    for authorization in (b"Bearer", b"Bearer other", b"scrape-me", b"Bearer \xff"):
        response = await client.get("/metrics", headers={b"authorization": authorization})
        assert response.status_code == 401
    headers = {"authorization": f"Bearer {attachment.key}"}
    assert (await client.get("/metrics", headers=headers)).status_code == 401


async def test_figures_of_the_database_are_there(client: httpx.AsyncClient) -> None:
    now = datetime.now(UTC)

    def store() -> None:
        for hours, next_attempt_at in ((3, now), (1, now), (9, None)):
            OutboxEntry.objects.create(
                destination="stripe",
                event_id=uuid.uuid4(),
                created_at=now - timedelta(hours=hours),
                next_attempt_at=next_attempt_at,
            )
        for _ in range(3):
            queue_email("a@example.com", subject="50 %", text="", now=now)
        given_up = Notification.objects.earliest("id")
        Notification.objects.filter(id=given_up.id).update(next_attempt_at=None)
        for hours, drift in ((2, 7), (1, 0)):
            Reconciliation.objects.create(
                kind="rows and sums",
                ran_at=now - timedelta(hours=hours),
                compared=1,
                drift_picounits=drift,
            )

    await run_in_database_thread(store)
    found = await scrape(client)
    assert found["annex_outbox_entries", "stripe"] == 2
    assert found["annex_outbox_oldest_age_seconds", "stripe"] == pytest.approx(10_800, abs=60)
    assert found["annex_outbox_set_aside_entries", "stripe"] == 1
    assert found["annex_notifications_pending", "email"] == 2
    assert found["annex_notifications_given_up", "email"] == 1
    assert found["annex_notifications_pending", "webhook"] == 0
    assert found["annex_reconciliation_drift_picounits", "rows and sums"] == 0
    assert found["annex_reconciliation_age_seconds", "rows and sums"] == pytest.approx(
        3_600, abs=60
    )
    assert ("annex_reconciliation_drift_picounits", "limiter and ledger") not in found
    assert ("annex_ledger_lag_seconds",) not in found


async def test_what_a_process_did_is_counted_under_its_id(
    client: httpx.AsyncClient, attach: Attach, worker: object
) -> None:
    before = await scrape(client)
    attachment = await attach()
    headers = {"authorization": f"Bearer {attachment.key}"}
    body = {"model": "all-minilm-l6-v2", "input": "hello"}
    answer = await client.post("/v1/embeddings", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    after = await scrape(client)

    def rise(*sample: str) -> float:
        return after[sample] - before.get(sample, 0)

    assert rise("annex_limiter_reservations_total") == 1
    assert rise("annex_ledger_recording_seconds_count") == 1
    assert 0 < rise("annex_ledger_recording_seconds_sum") < 5
    assert after["annex_limiter_is_local",] == 0
    assert (
        after["annex_limiter_local_admissions_total",]
        == before["annex_limiter_local_admissions_total",]
    )
    assert 0 <= after["annex_ledger_lag_seconds",] < 30
    assert 0 <= after["annex_ledger_newest_row_age_seconds",] < 30
    text = (await client.get("/metrics", headers=KEY)).text
    assert re.search(r'^annex_limiter_reservations_total\{process="\d+"\} ', text, re.MULTILINE)


async def test_a_database_that_does_not_answer_is_said(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_views, "READ_TIMEOUT_S", 0)
    assert (await client.get("/metrics", headers=KEY)).status_code == 503
