"""The JSON Schema of a plan's options: whether it is one that can be used."""

from collections.abc import Iterator, Mapping

from django.core.exceptions import ValidationError


class InvalidSchema(Exception):
    """It is no JSON Schema for options; the text says where and why."""


def check_schema(schema: object) -> None:
    """An object's schema in draft 2020-12, without references.

    Raises InvalidSchema.
    """
    from jsonschema import Draft202012Validator, SchemaError  # slow, and needed by this alone

    if not isinstance(schema, Mapping):
        raise InvalidSchema("must be an object: a JSON Schema of an object of options")
    try:
        # With formats: a pattern must be a regular expression.
        Draft202012Validator.check_schema(schema, Draft202012Validator.FORMAT_CHECKER)
    except SchemaError as error:
        place = "".join(f".{step}" for step in error.path).removeprefix(".") or "the schema"
        raise InvalidSchema(f"is no JSON Schema: {place}: {error.message[:300]}") from None
    if schema.get("type", "object") != "object":
        raise InvalidSchema('must have the type "object", or none: options are one')
    # What they refer to may not be there, or would be fetched while an add-on is ordered.
    for reference in _references(schema):
        raise InvalidSchema(f"refers to {reference}: put there what it refers to")


def validate_schema(schema: object) -> None:
    """For forms. Raises Django's ValidationError."""
    try:
        check_schema(schema)
    except InvalidSchema as error:
        raise ValidationError(f"It {error}.") from None


def _references(value: object) -> Iterator[str]:
    match value:
        case Mapping():
            for key, inner in value.items():
                if key in ("$ref", "$dynamicRef") and isinstance(inner, str):
                    yield inner
                else:
                    yield from _references(inner)
        case list():
            for inner in value:
                yield from _references(inner)
        case _:
            pass  # what else there is refers to nothing
