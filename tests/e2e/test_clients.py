"""Real clients, unmodified, with only base URL and key set: the scripts in clients/.

Each is what a user would write, checks what its package returns, and runs in the environment that
`make e2e` has made for them.
"""

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.annex import ROOT, plain_environment
from tests.e2e.cli import HerokuCli

CLIENTS = Path(__file__).parent / "clients"
PACKAGES = ROOT / ".venv-clients"
PYTHON = str(PACKAGES / "bin" / "python")
# langchain-cohere needs an older one, so that is what the environment has.
NEWEST_COHERE = {"PYTHONPATH": str(PACKAGES / "newest-cohere")}
# So that tiktoken, with which LangChain makes token ids, does not ask the internet for its file.
TIKTOKEN_CACHE = "lib/python*/site-packages/llama_index/core/_static/tiktoken_cache"
SCRIPT_TIMEOUT_S = 90.0


@pytest.fixture(scope="module")
def clients_app(heroku: HerokuCli) -> str:
    """An app with two attachments: what the one uses up, the other still has."""
    name = f"clients-{secrets.token_hex(4)}"
    heroku("apps:create", name)
    for alias in ("EMBEDDING", "LIMITED"):
        heroku("addons:create", "heroku-inference:standard", "--app", name, "--as", alias)
    return name


@pytest.fixture(scope="module")
def config(heroku: HerokuCli, clients_app: str) -> dict[str, str]:
    return heroku.config(clients_app)


def environment(config: dict[str, str], attachment: str = "EMBEDDING") -> dict[str, str]:
    """What a script finds: an attachment's config vars, and for boto3 the same as docs/sagemaker.md
    has it."""
    url, key, model_id = (config[f"{attachment}_{part}"] for part in ("URL", "KEY", "MODEL_ID"))
    return plain_environment(
        EMBEDDING_URL=url,
        EMBEDDING_KEY=key,
        EMBEDDING_MODEL_ID=model_id,
        AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=url,
        AWS_ACCESS_KEY_ID=key,
        AWS_SECRET_ACCESS_KEY=key,
        AWS_DEFAULT_REGION="us-east-1",
        NO_PROXY="127.0.0.1,localhost",
        TIKTOKEN_CACHE_DIR=str(next(PACKAGES.glob(TIKTOKEN_CACHE))),
    )


@pytest.fixture(scope="module")
def rate_limited(config: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """rate_limit.py, which waits for a minute: it does so while the others run."""
    command = [PYTHON, str(CLIENTS / "rate_limit.py")]
    environ = environment(config, "LIMITED") | NEWEST_COHERE
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("command", "environ"),
    [
        ([PYTHON, "openai_sdk.py"], {}),
        (["node", "openai_sdk.mjs"], {}),
        ([PYTHON, "cohere_sdk.py"], {}),
        ([PYTHON, "cohere_sdk.py"], NEWEST_COHERE),
        ([PYTHON, "langchain_embeddings.py"], {}),
        ([PYTHON, "llama_index_embedding.py"], {}),
        ([PYTHON, "boto3_sagemaker.py"], {}),
    ],
    ids=["openai", "openai-npm", "cohere", "newest-cohere", "langchain", "llama-index", "boto3"],
)
def test_the_package_works_with_only_base_url_and_key(
    command: list[str],
    environ: dict[str, str],
    config: dict[str, str],
    rate_limited: "subprocess.Popen[str]",
) -> None:
    done = subprocess.run(
        command,
        cwd=CLIENTS,
        env=environment(config) | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_package_that_is_refused_for_the_rate_limit_waits_and_is_served(
    rate_limited: "subprocess.Popen[str]",
) -> None:
    said, _ = rate_limited.communicate(timeout=SCRIPT_TIMEOUT_S)
    assert rate_limited.returncode == os.EX_OK, said
