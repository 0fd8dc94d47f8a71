"""More requests than a minute allows: each package says so, and one that may wait is served."""

import asyncio
import time

import boto3
import cohere
import openai
from attachment import KEY, MODEL, URL, refusal
from botocore.config import Config
from botocore.exceptions import ClientError
from cohere.errors import TooManyRequestsError

LIMIT = 500
AT_ONCE = 25


async def use_up_the_minute() -> None:
    """As many requests as the plan allows in a minute."""
    async with openai.AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0) as client:
        for _ in range(LIMIT // AT_ONCE):
            calls = [client.embeddings.create(model=MODEL, input="x") for _ in range(AT_ONCE)]
            await asyncio.gather(*calls)


began_at = time.monotonic()
asyncio.run(use_up_the_minute())

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
error = refusal(openai.RateLimitError, client.embeddings.create, model=MODEL, input="x")
assert (error.code, error.type, error.status_code) == ("rate_limit_exceeded", "requests", 429)
wait_s = int(error.response.headers["retry-after-ms"]) / 1000
assert 0 < wait_s <= int(error.response.headers["retry-after"]) <= 60
assert error.response.headers["x-ratelimit-remaining-requests"] == "0"

error = refusal(
    TooManyRequestsError,
    cohere.ClientV2(api_key=KEY, base_url=URL).embed,
    model=MODEL,
    texts=["x"],
    input_type="search_document",
    embedding_types=["float"],
    request_options={"max_retries": 0},
)
assert 0 < int(error.headers["retry-after"]) <= 60
assert str(LIMIT) in error.body["message"]

runtime = boto3.client("sagemaker-runtime", config=Config(retries={"total_max_attempts": 1}))
body = b'{"texts": ["x"], "input_type": "search_document"}'
error = refusal(ClientError, runtime.invoke_endpoint, EndpointName=MODEL, Body=body)
assert error.response["Error"]["Code"] == "ThrottlingException"

# As it is, it waits as long as the answer says, and asks again.
answer = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY).embeddings.create(model=MODEL, input="x")
assert len(answer.data) == 1
assert 55 < time.monotonic() - began_at < 75
