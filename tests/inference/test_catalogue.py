"""The catalogue: which models can be asked for."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from pytest_django import Settings

from inference import catalogue
from inference.catalogue import (
    InputTooLong,
    TooManyInputs,
    UnknownModel,
    check_inputs,
    get_model,
    installed_models,
    load_catalogue,
)

ABSENT = """
[[model]]
id = "absent"
checkpoint = "x/y"
package = "no_such_package_anywhere"
folder = "model"
sha256 = "00"
pooling = "mean"
dimensions = 8
context_tokens = 16
max_inputs = 2
max_input_characters = 5
"""


@pytest.fixture
def use_catalogue(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    settings.MODEL_CATALOGUE = tmp_path / "catalogue.toml"
    load_catalogue.cache_clear()
    installed_models.cache_clear()
    yield settings.MODEL_CATALOGUE
    load_catalogue.cache_clear()
    installed_models.cache_clear()


def test_the_shipped_model_is_installed() -> None:
    model = get_model("all-minilm-l6-v2")
    assert (model.dimensions, model.context_tokens, model.max_inputs) == (384, 256, 96)
    assert model.path is not None
    assert (model.path / "model.safetensors").is_file()


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownModel) as refusal:
        get_model("gpt-9")
    assert refusal.value.known == ("all-minilm-l6-v2",)


def test_a_model_without_weights_is_listed_but_cannot_be_asked_for(use_catalogue: Path) -> None:
    use_catalogue.write_text(ABSENT)
    assert "absent" in load_catalogue()
    with pytest.raises(UnknownModel):
        get_model("absent")


def test_a_misspelt_field_in_the_catalogue_is_an_error(use_catalogue: Path) -> None:
    use_catalogue.write_text(ABSENT.replace("dimensions", "dimension"))
    with pytest.raises(msgspec.ValidationError, match="dimension"):
        catalogue.load_catalogue()


def test_limits_of_a_model_name_the_index_and_the_number(use_catalogue: Path) -> None:
    use_catalogue.write_text(ABSENT)
    model = load_catalogue()["absent"]
    check_inputs(model, ["12345", "1"])
    with pytest.raises(TooManyInputs) as many:
        check_inputs(model, ["1", "2", "3"])
    assert many.value.count == 3
    with pytest.raises(InputTooLong) as long:
        check_inputs(model, ["1", "123456"])
    assert (long.value.index, long.value.characters) == (1, 6)
