"""Usage events as the tests of billing make them, and who writes them."""

import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from django.db import connection
from uuid_utils.compat import uuid7

from billing.metering import Ledger, Usage

NewUsage = Callable[..., Usage]


@pytest.fixture
def new_usage() -> NewUsage:
    """A usage event of an attachment of its own, except for what is given."""

    def new_usage(**changes: Any) -> Usage:
        usage = Usage(
            id=uuid7(),
            customer_id=uuid.uuid4(),
            resource_id=uuid.uuid4(),
            attachment_id=uuid.uuid4(),
            credential_id=uuid.uuid4(),
            attachment_name="EMBEDDING",
            app_name="shop",
            plan_name="heroku-inference:standard",
            price_id=1,
            model_id="all-minilm-l6-v2",
            inputs=2,
            text_tokens=17,
            cost_picounits=17 * 100_000,
            requested_at=datetime.now(UTC),
        )
        return dataclasses.replace(usage, **changes)

    return new_usage


@pytest.fixture
async def ledger() -> AsyncIterator[Ledger]:
    ledger = Ledger()
    yield ledger
    await ledger.close()


@pytest.fixture
def operator() -> Iterator[psycopg.Connection[Any]]:
    """A connection of its own to the same database."""
    parameters = connection.get_connection_params()
    given = {name: parameters[name] for name in ("dbname", "user", "host")}
    with psycopg.connect(**given, autocommit=True) as other:
        yield other
