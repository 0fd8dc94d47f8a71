"""The web process after a thousand requests: small, and without torch."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from openai import OpenAI

from tests.e2e.annex import Annex, command_line
from tests.e2e.cli import HerokuCli

REQUESTS_PER_APP = 350  # below the 500 a minute that an attachment may send
RESIDENT_MAX_MB = 250


def test_it_is_under_250_mb_after_1000_requests_and_has_not_loaded_torch(
    annex: Annex, heroku: HerokuCli
) -> None:
    answered = sum(send_requests(heroku) for _ in range(3))
    assert answered >= 1000
    web = [process for process in annex.processes() if "granian" in command_line(process)]
    assert web
    for process in web:
        assert process.memory_info().rss < RESIDENT_MAX_MB * 1_000_000
        mapped = Path(f"/proc/{process.pid}/maps")
        assert not mapped.exists() or "libtorch" not in mapped.read_text()


def send_requests(heroku: HerokuCli) -> int:
    """Many requests of a new app; returns how many were answered with a vector."""
    app = f"load-{secrets.token_hex(4)}"
    heroku("apps:create", app)
    heroku("addons:create", "heroku-inference:standard", "--app", app, "--as", "EMBEDDING")
    config = heroku.config(app)
    with (
        OpenAI(base_url=f"{config['EMBEDDING_URL']}/v1", api_key=config["EMBEDDING_KEY"]) as client,
        ThreadPoolExecutor(max_workers=8) as threads,
    ):

        def embed(number: int) -> int:
            text = f"request number {number}"
            answer = client.embeddings.create(model=config["EMBEDDING_MODEL_ID"], input=text)
            return len(answer.data)

        return sum(threads.map(embed, range(REQUESTS_PER_APP)))
