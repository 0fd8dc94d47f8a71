import io
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from rest_framework.exceptions import ParseError

from addon.json_api import (
    InvalidField,
    StrictJsonParser,
    find_uuid,
    iso,
    read_object,
    read_options,
    read_text,
    read_uuid,
)

UUID = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"a": NaN}', b"\xff", b'{"a": "x\\u0000"}', b'{"\\ud800": 1}', b"[" * 100_000],
)
def test_what_cannot_be_read_or_stored_is_a_parse_error(body: bytes) -> None:
    with pytest.raises(ParseError):
        StrictJsonParser().parse(io.BytesIO(body), "text/plain")


def test_a_body_has_a_longest_length() -> None:
    with pytest.raises(ParseError, match="at most 5000000 bytes"):
        StrictJsonParser().parse(io.BytesIO(b" " * 5_000_001))


def test_nested_text_is_checked_too() -> None:
    with pytest.raises(ParseError, match="NUL"):
        StrictJsonParser().parse(io.BytesIO(b'{"a": [{"b": "\\u0000"}]}'))


def test_an_absent_body_is_an_empty_object_and_a_list_is_none() -> None:
    assert read_object(None) == {}
    with pytest.raises(ParseError, match="object"):
        read_object([])


@pytest.mark.parametrize("value", [None, "", 5, "x" * 11])
def test_a_text_that_is_missing_or_wrong_is_named(value: object) -> None:
    with pytest.raises(InvalidField, match="plan must be a string"):
        read_text({"plan": value}, "plan", 10)


@pytest.mark.parametrize("text", ["", "x", UUID.replace("-", ""), "{" + UUID + "}", UUID + "0"])
def test_only_the_usual_spelling_is_a_uuid(text: str) -> None:
    assert find_uuid(text) is None
    with pytest.raises(InvalidField, match="uuid must be a UUID"):
        read_uuid({"uuid": text}, "uuid")


def test_a_uuid_may_be_in_capitals() -> None:
    assert find_uuid(UUID.upper()) == uuid.UUID(UUID)


def test_options_are_strings_and_a_flag_is_true() -> None:
    body = {"config": {"model": "x", "strict": True, "quiet": False}}
    assert read_options(body, "config") == {"model": "x", "strict": "true", "quiet": "false"}
    assert read_options({}, "config") == {}


@pytest.mark.parametrize("value", [[], "x", {"dims": 5}, {"dims": None}, {"dims": {}}])
def test_other_options_are_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidField, match="config"):
        read_options({"config": value}, "config")


@pytest.mark.parametrize("options", [{"n" * 101: "x"}, {"model": "x" * 10_001}])
def test_options_that_are_too_long_are_refused_in_a_short_sentence(
    options: dict[str, str],
) -> None:
    with pytest.raises(InvalidField, match=r"^config\S* .*at most") as raised:
        read_options({"config": options}, "config")
    assert len(str(raised.value)) < 200


def test_times_are_told_in_utc() -> None:
    moment = datetime(2026, 11, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert iso(moment) == "2026-11-01T10:00:00Z" == iso(datetime(2026, 11, 1, 10, tzinfo=UTC))
