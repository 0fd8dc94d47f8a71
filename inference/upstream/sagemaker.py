"""SageMaker endpoints of the marketplace's Cohere packages.

boto3 finds the credentials, renews them, says where the endpoint is and signs; the call itself is
made as those to every other upstream, so that it ends with its deadline or its client. A thread
of boto3's own client could not be stopped.
"""

import asyncio
from collections.abc import Sequence
from functools import cached_property

import boto3
import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError

from inference.tokenization import Truncate
from inference.upstream.entries import CredentialsUnusable, SageMakerUpstream, read_secret

# What the package of Embed 4 calls the ends of a text.
TRUNCATE = {"none": "NONE", "start": "LEFT", "end": "RIGHT"}


class _ModelError(msgspec.Struct):
    """The body of a 424, in which the runtime wraps what the container refused."""

    original_status: int = msgspec.field(name="OriginalStatusCode")


class SageMakerApi:
    body_max_bytes = 6_291_456

    def __init__(self, upstream: SageMakerUpstream) -> None:
        self._upstream = upstream

    def body(self, texts: Sequence[str], *, input_type: str, truncate: Truncate) -> bytes:
        """Of API v2 without `model`, as Cohere's own client sends it."""
        return msgspec.json.encode(
            {
                "texts": texts,
                "input_type": input_type,
                "embedding_types": ["float"],
                "truncate": TRUNCATE[truncate],
            }
        )

    async def address(self, body: bytes) -> tuple[str, dict[str, str]]:
        """Where the body goes, and its headers, signature included. Raises CredentialsUnusable."""
        return await asyncio.to_thread(self._sign, body)

    def status(self, status: int, answer: bytes) -> int:
        """The container's status where the runtime wraps it. A 400 of the runtime's own is about
        the endpoint, which does not exist there or does not run."""
        if status == 424:
            try:
                return msgspec.json.decode(answer, type=_ModelError).original_status
            except msgspec.MsgspecError:
                return 502
        return 404 if status == 400 else status

    def _sign(self, body: bytes) -> tuple[str, dict[str, str]]:
        try:
            credentials = self._session.get_credentials()
            if credentials is None:
                raise CredentialsUnusable("boto3 finds no AWS credentials")
            request = AWSRequest(
                method="POST",
                url=self._url,
                data=body,
                headers={"accept": "application/json", "content-type": "application/json"},
            )
            frozen = credentials.get_frozen_credentials()
            SigV4Auth(frozen, "sagemaker", self._upstream.region).add_auth(request)
        except (BotoCoreError, ClientError) as error:
            # Not its text: that of a credential process may hold anything.
            raise CredentialsUnusable(f"boto3 raised {type(error).__name__}") from None
        return self._url, dict(request.headers)

    @cached_property
    def _session(self) -> boto3.Session:
        id_variable = self._upstream.access_key_id_variable
        secret_variable = self._upstream.secret_access_key_variable
        return boto3.Session(
            aws_access_key_id=id_variable and read_secret(id_variable),
            aws_secret_access_key=secret_variable and read_secret(secret_variable),
            region_name=self._upstream.region,
        )

    @cached_property
    def _url(self) -> str:
        client = self._session.client("sagemaker-runtime", endpoint_url=self._upstream.url)
        base_url = str(client.meta.endpoint_url).rstrip("/")
        return f"{base_url}/endpoints/{self._upstream.endpoint}/invocations"
