"""A failure in no dialect: what every error of the API comes down to."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """`kind` is OpenAI's `type`; `field` is what the client called the field at fault; `cause` is
    what was raised, for dialects with words of their own."""

    status: int
    message: str
    kind: str = "invalid_request_error"
    field: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cause: Exception | None = None
