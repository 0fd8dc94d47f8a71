from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.addon.provider.platforms import Platform


@pytest.fixture
def plans(db: None) -> None:
    from billing.plans import sync_plans  # pytest may load this file before Django is set up

    sync_plans()


@pytest.fixture
def platform(db: None, settings: Any) -> Iterator[Platform]:
    """Of which the provider has heard, and that sends grants."""
    from billing.plans import sync_plans
    from tests.addon.provider.platforms import running_platform

    sync_plans()
    with running_platform() as platform:
        settings.PLATFORM_URLS = ["https://api.heroku.com", platform.url]
        settings.PROVIDER_WEBHOOK_SECRET = ""  # what is subscribed would be called about, too
        yield platform
