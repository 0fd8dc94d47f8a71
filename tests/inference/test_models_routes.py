"""What models there are, for OpenAI's clients and for Heroku's CLI."""

import uuid
from pathlib import Path

import httpx
import numpy as np
import pytest
from pytest_django import Settings
from redis import Redis as SyncRedis

from billing.models import Plan
from billing.plans import SHARED_POOL
from inference import presence
from inference.calibration import Corpus, calibration_file, make_calibration, write_calibration
from inference.catalogue import get_model, load_catalogue, queue_name
from inference.database import run_in_database_thread
from inference.pools import pool_name
from tests.inference.conftest import MODEL_ID, Attach

CHECKPOINT = "sentence-transformers/all-MiniLM-L6-v2"


async def bearer(attach: Attach) -> dict[str, str]:
    return {"authorization": f"Bearer {(await attach()).key}"}


def announce(redis: SyncRedis, worker_id: str, pool: str = SHARED_POOL) -> None:
    report = presence.Report(token_budget=1_000, tokens_per_s=1_234.0)
    presence.announce(redis, queue_name(MODEL_ID, pool_name("us", pool)), worker_id, report)


async def test_the_catalogue_is_listed_with_what_stands_behind_each_id(
    client: httpx.AsyncClient, attach: Attach, redis_client: SyncRedis
) -> None:
    announce(redis_client, "a")
    announce(redis_client, "b")
    response = await client.get("/v1/models", headers=await bearer(attach))
    assert response.json()["object"] == "list"
    models = {model["id"]: model for model in response.json()["data"]}
    assert list(models) == list(load_catalogue())
    served = models[MODEL_ID]
    assert (served["object"], served["owned_by"]) == ("model", "sentence-transformers")
    assert served["checkpoint"] == CHECKPOINT
    assert served["revision"] == get_model(MODEL_ID).installed_revision
    assert (served["installed"], served["ready"], served["workers"]) == (True, True, 2)
    absent = models["cohere-embed-multilingual"]
    assert (absent["installed"], absent["ready"], absent["workers"]) == (False, False, 0)
    assert "cohere" not in absent["checkpoint"].lower()


async def test_one_model_is_as_in_the_list(client: httpx.AsyncClient, attach: Attach) -> None:
    headers = await bearer(attach)
    listed = (await client.get("/v1/models", headers=headers)).json()["data"]
    for model in listed:
        response = await client.get(f"/v1/models/{model['id']}", headers=headers)
        assert response.json() == model


async def test_models_are_shown_to_holders_of_a_key(client: httpx.AsyncClient) -> None:
    for path in ("/v1/models", f"/v1/models/{MODEL_ID}", f"/v1/models/{MODEL_ID}/quantization"):
        response = await client.get(path)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "missing_api_key"


@pytest.mark.parametrize("path", ["/v1/models/gpt-9", "/v1/models/gpt-9/quantization"])
async def test_an_unknown_model_is_a_404(
    client: httpx.AsyncClient, attach: Attach, path: str
) -> None:
    response = await client.get(path, headers=await bearer(attach))
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


async def test_a_plan_of_one_model_shows_that_one(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    headers = await bearer(attach)
    await run_in_database_thread(
        Plan.objects.filter(slug="standard").update, serves_all_models=False, model_id=MODEL_ID
    )
    listed = await client.get("/v1/models", headers=headers)
    assert [model["id"] for model in listed.json()["data"]] == [MODEL_ID]
    other = await client.get("/v1/models/bge-m3", headers=headers)
    assert other.status_code == 403
    assert other.json()["error"]["code"] == "model_not_in_plan"


async def test_a_calibration_is_downloaded_once(
    client: httpx.AsyncClient, attach: Attach, settings: Settings, tmp_path: Path
) -> None:
    settings.MODELS_DIR = tmp_path
    model = get_model(MODEL_ID)
    vectors = np.random.default_rng(3).normal(size=(9, 384)).astype(np.float32)
    corpus = Corpus(name="made up", sha256="0" * 64, texts=9)
    calibration = make_calibration(model, corpus, vectors)
    write_calibration(calibration, calibration_file(model))
    path, headers = f"/v1/models/{MODEL_ID}/quantization", await bearer(attach)
    first = await client.get(path, headers=headers)
    assert first.json()["version"] == calibration.version
    assert first.json()["dimensions"]["384"]["minimum"] == calibration.dimensions[384].minimum
    for tag in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = await client.get(path, headers={**headers, "if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    other = await client.get(path, headers={**headers, "if-none-match": '"other"'})
    assert other.content == first.content


async def test_a_model_without_a_calibration_names_the_command(
    client: httpx.AsyncClient,
    attach: Attach,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.MODELS_DIR = tmp_path
    monkeypatch.setattr("inference.calibration.SHIPPED", tmp_path)
    headers = await bearer(attach)
    response = await client.get(f"/v1/models/{MODEL_ID}/quantization", headers=headers)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_calibrated"
    assert f"manage.py models calibrate {MODEL_ID}" in response.json()["error"]["message"]


async def test_available_models_are_the_installed_ones_and_need_no_key(
    client: httpx.AsyncClient, redis_client: SyncRedis
) -> None:
    announce(redis_client, "a")
    (model,) = (await client.get("/available-models")).json()
    assert model == {
        "model_id": MODEL_ID,
        "type": ["text-to-embedding"],
        "link": f"https://huggingface.co/{CHECKPOINT}",
        "regions": ["us", "eu"],
        "checkpoint": CHECKPOINT,
        "revision": get_model(MODEL_ID).installed_revision,
        "is_upstream": False,
        "installed": True,
        "ready": True,
        "workers": 1,
    }


async def test_an_add_on_is_shown_to_its_own_key(
    client: httpx.AsyncClient, attach: Attach, redis_client: SyncRedis
) -> None:
    attachment, other = await attach(), await attach()
    headers = {"authorization": f"Bearer {attachment.key}"}
    path = f"/models/{attachment.resource_id}"
    waiting = (await client.get(path, headers=headers)).json()
    assert (waiting["ready"], "avg_performance" in waiting) == ("No", False)
    announce(redis_client, "a")
    answer = (await client.get(path.upper().replace("MODELS", "models"), headers=headers)).json()
    assert (answer["model_id"], answer["ready"], answer["workers"]) == (MODEL_ID, "Yes", 1)
    assert answer["checkpoint"] == CHECKPOINT
    assert answer["avg_performance"] == "1234 tokens/sec"
    for addon_id in (other.resource_id, uuid.uuid4(), "embedding"):
        response = await client.get(f"/models/{addon_id}", headers=headers)
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "addon_not_found"
    assert (await client.get(path)).status_code == 401


async def test_an_add_on_counts_the_workers_of_its_own_pool(
    client: httpx.AsyncClient, attach: Attach, redis_client: SyncRedis
) -> None:
    attachment = await attach()
    await run_in_database_thread(
        Plan.objects.filter(slug="standard").update, worker_pool="resource"
    )
    announce(redis_client, "shared")
    headers = {"authorization": f"Bearer {attachment.key}"}
    path = f"/models/{attachment.resource_id}"
    assert (await client.get(path, headers=headers)).json()["workers"] == 0
    announce(redis_client, "own", pool=str(attachment.resource_id))
    assert (await client.get(path, headers=headers)).json()["workers"] == 1


async def test_an_error_has_what_the_ai_plugin_prints_and_for_others_openai_s_shape_alone(
    client: httpx.AsyncClient,
) -> None:
    plugin = {"user-agent": "heroku-cli-plugin-ai/undefined linux"}
    told = (await client.get("/models/1", headers=plugin)).json()
    assert told["id"] == "missing_api_key"
    assert told["message"] == told["error"]["message"]
    assert (await client.get("/models/1")).json() == {"error": told["error"]}
