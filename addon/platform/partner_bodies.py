"""Request bodies of providers, read once into values. Errors name the field."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from addon.json_api import InvalidField, Json, read_object, read_text

CONFIG_MAX = 100  # vars at once
GRANT_TYPES = {"authorization_code": "code", "refresh_token": "refresh_token"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRequest:
    """`credential` is the code, or the refresh token."""

    is_refresh: bool
    credential: str = field(repr=False)
    client_secret: str = field(repr=False)


def read_token_request(query: Mapping[str, str], data: object) -> TokenRequest:
    """From the query and the body together."""
    body: Json = {**query, **read_object(data)}
    grant_type = read_text(body, "grant_type")
    if grant_type not in GRANT_TYPES:
        raise InvalidField(f"grant_type must be one of: {', '.join(GRANT_TYPES)}")
    return TokenRequest(
        is_refresh=grant_type == "refresh_token",
        credential=read_text(body, GRANT_TYPES[grant_type]),
        client_secret=read_text(body, "client_secret"),
    )


def read_config(data: object) -> dict[str, str | None]:
    """By name; None unsets."""
    rows = read_object(data).get("config")
    if not isinstance(rows, list) or len(rows) > CONFIG_MAX:
        raise InvalidField(
            f'config must be a list of at most {CONFIG_MAX} like {{"name": "FOO", "value": "bar"}}'
        )
    return dict(map(_read_var, rows))


def _read_var(row: object) -> tuple[str, str | None]:
    if not isinstance(row, Mapping):
        raise InvalidField('config: each must be an object like {"name": "FOO", "value": "bar"}')
    name, value = row.get("name"), row.get("value")
    if not isinstance(name, str) or not name:
        raise InvalidField("config: each must have a name")
    # Nor is one without a value unset: that would lose what a misspelt field was to set.
    if "value" not in row or not isinstance(value, str | None):
        raise InvalidField(
            f"config: the value of {name[:256]} must be a string, or null to unset it"
        )
    return name, value
