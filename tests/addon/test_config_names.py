import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.config_names import COLOURS, InvalidAlias, config_var_name, default_alias, parse_alias


@pytest.mark.parametrize(
    ("text", "alias"), [("EMBEDDING", "EMBEDDING"), ("search_2", "SEARCH_2"), ("a", "A")]
)
def test_an_alias_is_put_in_capitals_and_then_checked(text: str, alias: str) -> None:
    assert parse_alias(text) == alias


@pytest.mark.parametrize(
    "text", ["", "2ND", "_A", "MY-ALIAS", "A B", "ÄRGER", "A\n", "ß", "\u017f"]
)
def test_an_alias_that_no_env_var_could_start_with_is_refused(text: str) -> None:
    with pytest.raises(InvalidAlias, match="start with a letter"):
        parse_alias(text)


def test_an_alias_has_a_longest_length() -> None:
    assert parse_alias("A" * 128)
    with pytest.raises(InvalidAlias, match="128"):
        parse_alias("A" * 129)


@given(st.text())
def test_whatever_is_accepted_is_a_name_for_a_shell(text: str) -> None:
    try:
        alias = parse_alias(text)
    except InvalidAlias:
        return
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*", alias)


def test_the_default_alias_is_the_prefix_then_a_colour_then_a_number() -> None:
    taken: set[str] = set()
    for _ in range(len(COLOURS) + 3):
        taken.add(default_alias("INFERENCE", taken.__contains__))
    assert taken == {
        "INFERENCE",
        *(f"INFERENCE_{colour}" for colour in COLOURS),
        "INFERENCE_2",
        "INFERENCE_3",
    }


def test_a_config_var_is_the_alias_and_what_the_manifest_has_behind_its_prefix() -> None:
    assert config_var_name("EMBEDDING", "INFERENCE", "INFERENCE_MODEL_ID") == "EMBEDDING_MODEL_ID"
    assert config_var_name("A", "FAST_DB", "FAST_DB_FAST_DB_URL") == "A_FAST_DB_URL"
