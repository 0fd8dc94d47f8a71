"""Annex with the product documents' models, as tests/e2e/catalogue.toml has them."""

import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings
from redis import Redis

from inference.catalogue import load_catalogue
from inference.installation import install_from_folder
from tests.e2e.checkpoints import CONFIGS, save_checkpoint
from tests.inference.conftest import launch_worker, wait_for_workers

CATALOGUE = Path(__file__).parents[2] / "e2e" / "catalogue.toml"


@pytest.fixture(scope="module")
def product_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The models of that catalogue, installed."""
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    where = {"MODEL_CATALOGUE": CATALOGUE, "MODELS_DIR": tmp_path_factory.mktemp("models")}
    load_catalogue.cache_clear()
    with override_settings(**where):
        for model_id, config in CONFIGS.items():
            save_checkpoint(config, checkpoints / model_id)
            model = load_catalogue()[model_id]
            install_from_folder(model, checkpoints / model_id, datetime.now(UTC))
        yield
    load_catalogue.cache_clear()


@pytest.fixture(scope="module")
def product_worker(
    tmp_path_factory: pytest.TempPathFactory, product_models: None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker for all of them, while a module needs it."""
    log = tmp_path_factory.mktemp("worker") / "log"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MODEL_CATALOGUE", "MODELS_DIR"):
            patch.setenv(name, str(getattr(settings, name)))
        process = launch_worker(log)
    try:
        wait_for_workers(1, process, log)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture
def serving(product_worker: "subprocess.Popen[bytes]", redis_client: Redis, tmp_path: Path) -> None:
    """The worker, known again after Redis was emptied for this test."""
    (log := tmp_path / "log").write_text("the worker no longer announces itself")
    wait_for_workers(1, product_worker, log)
