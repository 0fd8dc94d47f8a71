"""Real servers for the whole run: PostgreSQL and Valkey, embedded, in a temporary folder.

They start once, in the only process or in xdist's controller, before Django's settings are read;
the workers inherit their addresses. Each process has a PostgreSQL database (pytest-django) and a
Valkey of its own, because some tests empty or pause the whole of it.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import django
import hypothesis
import pytest
from redis import Redis

from config.embedded_servers import Valkey, running_servers
from config.guard import Guard

ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "SECRET_KEY": "a-secret-key-that-only-the-tests-use-0123456789",
    "ENCRYPTION_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "PROVIDER_PASSWORD": "provider-password-of-the-tests",
    "SSO_SALT": "sso-salt-of-the-tests",
    "PROVIDER_WEBHOOK_SECRET": "webhook-secret-of-the-tests",
    "INVOICE_SIGNING_KEY": "an-invoice-signing-key-of-the-tests",
    "DATABASE_POOL_SIZE": "4",
    # Tests run in parallel already: more threads would only wait for each other.
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
}
# What a developer may have exported, and what would make the tests say something else.
FORGOTTEN = [
    "PUBLIC_URL",
    "PROVIDER_URL",
    "INFERENCE_URL",
    "INFERENCE_URL_EU",
    "REGIONS",
    "PROCESS_REGION",
    "ADDON_SERVICE_NAME",
    "PLATFORM_URLS",
    "PLATFORM_TOKEN_URL",
    "OAUTH_CLIENT_SECRET",
    "MODEL_CATALOGUE",
    "MODELS_DIR",
    "ALLOWED_HOSTS",
    "DEBUG",
    "PORT",
    "REQUEST_TIMEOUT_S",
    "REQUEST_BODY_MAX_BYTES",
    "KEY_CACHE_S",
    "KEY_OVERLAP_S",
    "PLATFORM_REQUESTS_PER_HOUR",
    "LIMITS_SHADOW",
    "LIMITS_PROCESSES",
    "LIMITS_LOCAL_SHARE_S",
    "WEB_CONCURRENCY",
    "IDEMPOTENCY_MAX_MB",
    "SAGEMAKER_KEY",
    "LOG_LEVEL",
    "EMAIL_URL",
    "WEBHOOK_ALLOW_PRIVATE",
    "EXPORT_OPENMETER_URL",
    "EXPORT_OPENMETER_TOKEN",
    "EXPORT_STRIPE_URL",
    "EXPORT_STRIPE_KEY",
    "EXPORT_STRIPE_EVENT_NAME",
    "METRICS_KEY",
    "TRUSTED_PROXIES",
]

# Half a minute and more, the longest first: else processes would wait for these at the end.
LONGEST = [
    "inference/openapi/test_fuzzing.py",
    "inference/engine/test_encoder.py",
    "addon/test_two_deployments.py",
    "addon/test_crash_points.py",
    "inference/test_worker.py",
    "inference/test_models_command.py",
    "inference/test_calibration.py",
    "inference/engine/test_gpu_bench.py",
    "billing/test_month.py",
]

# How long an example takes says more of what else the machine does than of the code.
hypothesis.settings.register_profile("annex", deadline=None)
hypothesis.settings.load_profile("annex")

_running = ExitStack()


def _prepare() -> None:
    """Set the environment and Django up, before the conftest of any folder below imports models."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        atexit.register(_running.close)  # in case that pytest does not come to its end
        _set_environment(_running.enter_context(_servers_in_a_temporary_folder()))
    django.setup()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    for spec in specs:
        spec.env["REDIS_URL"] = _running.enter_context(_valkey_in_a_temporary_folder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_unconfigure() -> None:
    _running.close()


@contextmanager
def _servers_in_a_temporary_folder() -> Iterator[dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="annex-tests-"))
    try:
        with running_servers(folder, durable=False) as addresses:
            yield {
                # pytest-django empties tables with TRUNCATE, which the ledger refuses.
                "DATABASE_URL": _with_option(addresses.database_url, "-c annex.may_truncate=on"),
                "REDIS_URL": addresses.redis_url,
                # Not var/: the secrets of an Annex that runs there are none of the tests' business.
                "VAR_DIR": str(folder),
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _valkey_in_a_temporary_folder() -> Iterator[str]:
    guard = Guard()
    with tempfile.TemporaryDirectory(prefix="annex-tests-") as folder:
        valkey = Valkey(Path(folder), guard, durable=False)
        try:
            valkey.start()
            yield valkey.url
        finally:
            valkey.stop()
            guard.release()


def _with_option(database_url: str, option: str) -> str:
    separator = "&" if urlsplit(database_url).query else "?"
    return f"{database_url}{separator}options={quote(option)}"


def _set_environment(addresses: dict[str, str]) -> None:
    for name in FORGOTTEN:
        os.environ.pop(name, None)
    os.environ.update(ENVIRONMENT)
    os.environ.update(addresses)


@pytest.fixture(scope="session")
def redis_session() -> Iterator[Redis]:
    with Redis.from_url(os.environ["REDIS_URL"]) as client:
        yield client


@pytest.fixture(autouse=True)
def _empty_valkey(redis_session: Redis) -> None:
    """No test sees the limits, queues or workers of another."""
    redis_session.flushall()


@pytest.fixture
def redis_client(redis_session: Redis) -> Redis:
    """This process's Valkey, empty."""
    return redis_session


_prepare()
