"""The tokenizer of an upstream's model, which counts its tokens here."""

import httpx
import msgspec
from tokenizers import Tokenizer

from inference.upstream.cohere import authorization
from inference.upstream.entries import CohereUpstream, SageMakerUpstream, Upstream

TIMEOUT_S = 60.0
TOKENIZER_MAX_BYTES = 256_000_000


class TokenizerNotFetched(Exception):
    """The upstream gave no tokenizer; the text says why, for an operator."""


class _CohereModel(msgspec.Struct):
    """Of `GET /v1/models/{model}` (https://docs.cohere.com/reference/get-model)."""

    tokenizer_url: str | None = None


def fetch_tokenizer(upstream: Upstream) -> bytes:
    """The contents of `tokenizer.json`, which were read as a tokenizer to see that they are one.

    Raises TokenizerNotFetched, CredentialsUnusable.
    """
    match upstream:
        case SageMakerUpstream():
            raise TokenizerNotFetched(
                "a SageMaker endpoint gives none: install one with --from FOLDER"
            )
        case CohereUpstream():
            return _fetch_from_cohere(upstream)


def _fetch_from_cohere(upstream: CohereUpstream) -> bytes:
    place = f"{upstream.url.rstrip('/')}/v1/models/{upstream.model}"
    with httpx.Client(timeout=TIMEOUT_S) as client:
        described = _get(client, place, headers=authorization(upstream))
        try:
            url = msgspec.json.decode(described, type=_CohereModel).tokenizer_url
        except msgspec.MsgspecError:
            raise TokenizerNotFetched(f"{place} does not describe a model") from None
        if not url:
            raise TokenizerNotFetched(f"{place} names no tokenizer: use --from FOLDER")
        tokenizer = _get(client, url, headers={})  # on another host, which gets no key
    try:
        Tokenizer.from_buffer(tokenizer)
    except Exception as error:  # tokenizers raises nothing more exact  # noqa: BLE001
        raise TokenizerNotFetched(f"what {place} names is no tokenizer: {error}") from None
    return tokenizer


def _get(client: httpx.Client, url: str, *, headers: dict[str, str]) -> bytes:
    received = bytearray()
    try:
        with client.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                raise TokenizerNotFetched(f"{url} answered {response.status_code}")
            for chunk in response.iter_bytes():
                received += chunk
                if len(received) > TOKENIZER_MAX_BYTES:
                    raise TokenizerNotFetched(f"{url} has more than {TOKENIZER_MAX_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TokenizerNotFetched(f"{url}: {type(error).__name__}") from error
    return bytes(received)
