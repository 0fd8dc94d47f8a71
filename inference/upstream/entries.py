"""What a catalogue entry says of its upstream. Secrets are in variables, which it names."""

import os
from typing import Annotated

import msgspec

from inference.catalogue_file import Contradiction

# A secret written here by mistake is refused: names have no small letters, addresses no user.
Variable = Annotated[str, msgspec.Meta(pattern=r"^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+\Z")]
Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[^@/?#\s]+(/[^@?#\s]*)?\Z")]
Calls = Annotated[int, msgspec.Meta(ge=1, le=256)]


class CredentialsUnusable(Exception):
    """There is nothing to authenticate with. The text says why, and shows no secret."""


class CohereUpstream(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="cohere",
):
    """A model of Cohere's API v2, or of what speaks it at `url`."""

    model: Annotated[str, msgspec.Meta(pattern=r"^[\w.:-]+\Z")]
    key_variable: Variable = "COHERE_API_KEY"
    url: Url = "https://api.cohere.com"
    max_concurrent: Calls = 16

    def __str__(self) -> str:
        return f"{self.model} at {self.url}"

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.key_variable,)


class SageMakerUpstream(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="sagemaker",
):
    """A SageMaker endpoint of the marketplace's Embed 4 package.

    Without the two variables the credentials are those that boto3 finds; without `url` so is the
    address.
    """

    endpoint: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}\Z")]
    region: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+\Z")]
    access_key_id_variable: Variable | None = None
    secret_access_key_variable: Variable | None = None
    url: Url | None = None
    max_concurrent: Calls = 16

    def __post_init__(self) -> None:
        if (self.access_key_id_variable is None) != (self.secret_access_key_variable is None):
            raise Contradiction(
                "secret_access_key_variable", "and access_key_id_variable need each other"
            )

    def __str__(self) -> str:
        return f"SageMaker endpoint {self.endpoint} in {self.region}"

    @property
    def variables(self) -> tuple[str, ...]:
        named = (self.access_key_id_variable, self.secret_access_key_variable)
        return tuple(variable for variable in named if variable is not None)


Upstream = CohereUpstream | SageMakerUpstream


def read_secret(variable: str) -> str:
    """The secret in an environment variable. Raises CredentialsUnusable."""
    secret = os.environ.get(variable, "").strip()
    if not secret:
        raise CredentialsUnusable(f"{variable} is not set")
    # HTTP libraries show a header that they cannot send in their exceptions.
    if not all("!" <= character <= "~" for character in secret):
        raise CredentialsUnusable(f"{variable} holds characters that no key has")
    return secret


def find_unusable_variables(upstream: Upstream) -> tuple[str, ...]:
    """The variables that an entry names and that hold no secret yet."""
    unusable = []
    for variable in upstream.variables:
        try:
            read_secret(variable)
        except CredentialsUnusable:
            unusable.append(variable)
    return tuple(unusable)
