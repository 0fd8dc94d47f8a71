import pytest


@pytest.fixture
def plans(db: None) -> None:
    from billing.plans import sync_plans  # pytest may load this file before Django is set up

    sync_plans()
