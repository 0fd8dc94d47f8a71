"""Authentication of calls that AWS's clients make, or that SageMaker hands to a container.

Those clients sign what they send, and cannot send a bearer key over http: they are given the key as
their access key id, which stands in the signature's Credential. The signature is not checked. The
key has been sent, as a bearer key is; a signature with a secret made from it would prove no more.

SageMaker takes the Authorization header off what it hands on: IAM has decided who may call. Calls
without one are then those of the key that SAGEMAKER_KEY holds.
"""

import re

from django.conf import settings

from inference.authentication import Caller, InvalidKey, authenticate

_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 (?:.*[ ,])?Credential=([^/, ]+)/")


class ContainerKeyInvalid(Exception):
    """SAGEMAKER_KEY is no live attachment's key, so nobody can be billed."""


async def authenticate_signed(authorization: str | None) -> Caller:
    """The caller by a bearer key, or by the key in a signature's Credential.

    Raises MissingKey, InvalidKey, WrongRegion, KeysUnavailable.
    """
    signed = _CREDENTIAL.match(authorization or "")
    return await authenticate(f"Bearer {signed[1]}" if signed else authorization)


async def authenticate_container(authorization: str | None) -> Caller:
    """Likewise, or without a header by SAGEMAKER_KEY. Raises ContainerKeyInvalid too."""
    if authorization is None and settings.SAGEMAKER_KEY:
        return await container_caller()
    return await authenticate_signed(authorization)


async def container_caller() -> Caller:
    """Whom SAGEMAKER_KEY belongs to. Raises ContainerKeyInvalid, WrongRegion,
    KeysUnavailable."""
    try:
        return await authenticate(f"Bearer {settings.SAGEMAKER_KEY}")
    except InvalidKey as error:
        raise ContainerKeyInvalid from error
