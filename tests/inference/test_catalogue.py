"""The catalogue: what its file may say, and which models can be asked for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from pytest_django import Settings

from inference.catalogue import (
    ModelNotInstalled,
    UnknownModel,
    get_model,
    load_catalogue,
)
from inference.catalogue_file import InvalidCatalogue
from inference.upstream.entries import CohereUpstream

ENTRY = """
[[model]]
id = "absent"
checkpoint = "x/y"
architecture = "bert"
pooling = "mean"
dimensions = 8
output_dimensions = [
    2,
    8,
]
context_tokens = 16
max_input_characters = 5

[model.prompts]
search_query = "query: "
"""
UPSTREAM = """
[[model]]
id = "elsewhere"
checkpoint = "x/y"
dimensions = 8
context_tokens = 16
max_input_characters = 5
upstream = { kind = "cohere", model = "embed-v4.0", key_variable = "COHERE_API_KEY" }
"""


@pytest.fixture
def file(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """The catalogue's file, for a test to write."""
    settings.MODEL_CATALOGUE = tmp_path / "catalogue.toml"
    load_catalogue.cache_clear()
    yield tmp_path / "catalogue.toml"
    load_catalogue.cache_clear()


def test_the_shipped_model_is_installed() -> None:
    model = get_model("all-minilm-l6-v2")
    assert (model.dimensions, model.context_tokens, model.max_inputs) == (384, 256, 96)
    assert model.path is not None
    assert (model.path / "model.safetensors").is_file()
    assert model.weights["model.safetensors"] == model.installed_revision


def test_the_shipped_catalogue_has_the_ids_of_the_product_documents_and_open_models() -> None:
    catalogue = load_catalogue()
    assert list(catalogue) == [
        "all-minilm-l6-v2",
        "cohere-embed-multilingual",
        "cohere-embed-v4",
        "multilingual-e5-large",
        "bge-m3",
        "arctic-embed-l-v2.0",
        "qwen3-embedding-0.6b",
        "nomic-embed-text-v1.5",
    ]
    multilingual, v4 = catalogue["cohere-embed-multilingual"], catalogue["cohere-embed-v4"]
    assert (multilingual.default_output_dimension, multilingual.max_input_characters) == (
        1024,
        2048,
    )
    assert v4.output_dimensions == (256, 512, 1024, 1536)
    assert v4.default_output_dimension == 1536
    assert (v4.max_inputs, v4.max_input_characters, v4.max_request_tokens) == (96, 2048, 800_000)
    assert all("Cohere/" not in model.checkpoint for model in catalogue.values())


def test_a_prompt_goes_before_the_text_and_may_go_on_after_it() -> None:
    before, after = load_catalogue()["cohere-embed-v4"].prompt("search_query")
    assert before.endswith("query.<|im_end|>\n<|im_start|>user\n")
    assert after == "<|im_end|>\n<|im_start|>assistant\n"
    assert load_catalogue()["bge-m3"].prompt("clustering") == ("", "")


def test_an_unknown_model_is_refused_with_the_installed_ones() -> None:
    with pytest.raises(UnknownModel) as refusal:
        get_model("gpt-9")
    assert refusal.value.known == ("all-minilm-l6-v2",)


def test_a_model_without_weights_is_known_and_the_refusal_names_the_command(file: Path) -> None:
    file.write_text(ENTRY)
    assert "absent" in load_catalogue()
    with pytest.raises(ModelNotInstalled, match=r"manage\.py models install absent"):
        get_model("absent")


def test_what_an_entry_does_not_say_has_a_default(file: Path) -> None:
    file.write_text(UPSTREAM)
    model = load_catalogue()["elsewhere"]
    assert (model.output_dimensions, model.default_output_dimension) == ((8,), 8)
    assert (model.max_inputs, model.max_request_tokens, model.revision) == (96, 800_000, "main")
    assert model.upstream == CohereUpstream(model="embed-v4.0")


def line_of(text: str, start: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), 1) if line.startswith(start))


@pytest.mark.parametrize(
    ("old", "new", "at", "message"),
    [
        ('"mean"', '"max"', "pooling", 'pooling must be one of mean, cls, last, not "max"'),
        ('"bert"', '"t5"', "architecture", "architecture must be one of bert, xlm-roberta, "),
        ("dimensions = 8\n", "dimensoins = 8\n", "dimensoins", "did you mean dimensions?"),
        ("dimensions = 8\n", "", "[[model]]", "dimensions is missing"),
        ("dimensions = 8\n", 'dimensions = "8"\n', "dimensions", "dimensions: expected `int`"),
        ("dimensions = 8\n", "dimensions = 0\n", "dimensions", "expected `int` >= 1"),
        ("dimensions = 8\n", "dimensions = 7\n", "output_dimensions", "cannot hold 8"),
        ("    8,\n", "", "[[model]]", "default_output_dimension is 8 (by default, dimensions)"),
        ("    2,\n", "    8,\n", "output_dimensions", "output_dimensions must rise"),
        ("    2,\n", "    0,\n", "output_dimensions", "expected `int` >= 1"),
        ("search_query", "query", "query", "prompts.query is no input_type"),
        ('"query: "', "7", "[model.prompts]", "prompts: expected `str`"),
        ('pooling = "mean"\n', "", "[[model]]", "pooling is missing"),
        ('architecture = "bert"\n', "", "[[model]]", "architecture is missing"),
        ('"absent"', '"../x"', "id", "id must be letters, digits"),
        ("[model.prompts]", 'sha256 = "00"\n[model.prompts]', "sha256", "sha256 must be 64 hex"),
        ("[model.prompts]", 'folder = "x"\n[model.prompts]', "[[model]]", "sha256 is missing"),
        ("[model.prompts]", 'package = "x"\n[model.prompts]', "[[model]]", "folder is missing"),
        ("[model.prompts]", "tokens_per_minute = 0\n[model.prompts]", "tokens_per", ">= 1"),
        ("[model.prompts]", "requests_per_minute = 0\n[model.prompts]", "requests", ">= 1"),
        ("[model.prompts]", "concurrent_requests = -1\n[model.prompts]", "concurrent", ">= 1"),
        ("[model.prompts]", 'upstream = { kind = "x" }\n[model.prompts]', "upstream", "kind"),
    ],
)
def test_a_wrong_entry_is_an_error_that_names_line_and_key(
    file: Path, old: str, new: str, at: str, message: str
) -> None:
    assert old in ENTRY
    # Behind another entry, whose lines are none of the wrong one's.
    text = UPSTREAM.replace("[[model]]", "[[model]] # first") + ENTRY.replace(old, new, 1)
    file.write_text(text)
    with pytest.raises(InvalidCatalogue) as error:
        load_catalogue()
    behind = len(UPSTREAM.splitlines())
    line = behind + line_of(ENTRY.replace(old, new, 1), at)
    start, _, rest = str(error.value).partition(": ")
    assert start == f"{file}, line {line}"
    assert message in rest


def test_two_entries_of_one_id_are_an_error_at_the_second(file: Path) -> None:
    file.write_text(ENTRY + ENTRY)
    second = len(ENTRY.splitlines()) + 3
    with pytest.raises(InvalidCatalogue, match=f'line {second}: model "absent": id is that of'):
        load_catalogue()


def test_a_key_itself_in_place_of_its_variables_name_is_refused_and_not_shown(file: Path) -> None:
    file.write_text(UPSTREAM.replace('"COHERE_API_KEY"', '"co-9f8e7d6c"'))
    with pytest.raises(InvalidCatalogue) as error:
        load_catalogue()
    assert "upstream.key_variable" in str(error.value)
    assert "9f8e7d6c" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[[model]]\nid = \n", "line 2"),
        (b"\xff", "utf-8"),
        (b"[other]\n", "other is no key of the file"),
        (b"[model]\n", r"must be written as \[\[model\]\]"),
        (b"model = [\n  7,\n]\n", "line 1: the entry: expected `object`"),
    ],
)
def test_a_file_that_is_no_catalogue_is_an_error(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(InvalidCatalogue, match=message):
        load_catalogue()


def test_a_file_that_is_not_there_is_an_error(file: Path) -> None:
    with pytest.raises(InvalidCatalogue, match=r"cannot be read: No such file"):
        load_catalogue()


@pytest.mark.parametrize(
    "command",
    [
        ["manage.py", "serve_models"],
        ["manage.py", "migrate"],
        ["-m", "celery", "--app", "config.celery", "worker"],
        ["-c", "import config.asgi"],
    ],
    ids=["gpu", "release", "worker", "web"],
)
def test_a_wrong_catalogue_stops_every_process_with_one_line_and_no_traceback(
    tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "catalogue.toml").write_text(ENTRY.replace('"mean"', '"max"'))
    environment = {**os.environ, "MODEL_CATALOGUE": str(tmp_path / "catalogue.toml")}
    stopped = subprocess.run(
        [sys.executable, *command],
        cwd=django_settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert stopped.returncode != 0
    wanted = (
        f"{tmp_path / 'catalogue.toml'}, line 6: "
        'model "absent": pooling must be one of mean, cls, last, not "max"'
    )
    assert stopped.stderr.strip().splitlines() == [wanted]
