import asyncio
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from inference.calibration import (
    CORPUS,
    SHIPPED,
    STEP_UNIT,
    Calibration,
    CannotCalibrate,
    Corpus,
    InvalidCalibration,
    Ranges,
    calibrate,
    calibration_file,
    choose_ranges,
    digest_of,
    find_calibration,
    read_corpus,
    write_calibration,
)
from inference.catalogue import INPUT_TYPES, Model, get_model
from inference.pools import shared_pools
from inference.quantization import quantize
from inference.upstream.entries import CohereUpstream
from tests.inference.conftest import MODEL_ID
from tests.inference.test_quantization import unit_vectors
from tests.inference.upstream.stand_in import DIMENSIONS, KEY, running_stand_in
from tests.inference.upstream.stand_in import unit_vectors as unit_rows


@pytest.fixture
def model(settings: Settings, tmp_path: Path) -> Model:
    """The model, with nothing calibrated on this machine."""
    settings.MODELS_DIR = tmp_path / "models"
    return get_model(MODEL_ID)


def make(model: Model, ranges: Ranges) -> Calibration:
    return Calibration(
        version=digest_of({384: ranges.array(384)}),
        model=model.id,
        checkpoint=model.checkpoint,
        revision=model.installed_revision,
        weights=model.weights,
        method="by a test",
        corpus=Corpus(name="none", sha256="", texts=0),
        dimensions={384: ranges},
    )


def shipped_document(model: Model) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((SHIPPED / f"{model.id}.json").read_bytes())
    return document


def test_the_shipped_ranges_are_for_the_shipped_weights(model: Model) -> None:
    calibration = find_calibration(model)
    assert calibration is not None
    assert calibration.weights == model.weights
    ranges = calibration.ranges(384)
    assert ranges is not None
    assert ranges.shape == (2, 384)
    assert ranges.dtype == np.float32
    assert calibration.ranges(256) is None
    assert calibration.corpus == read_corpus(CORPUS)[0]


def test_zero_is_zero_and_a_step_is_a_step() -> None:
    ranges = choose_ranges(unit_vectors(500, 384)).array(384)
    step = (ranges[1] - ranges[0]) / np.float32(255)
    assert (step == step[0]).all()
    assert step[0] / STEP_UNIT == round(step[0] / STEP_UNIT)
    batch = np.array([-3, -1, -0.51, -0.49, 0, 0.49, 0.51, 1, 3], np.float32)[:, None] * step
    expected = [-3, -1, -1, 0, 0, 0, 1, 1, 3]
    assert quantize(batch, "int8", ranges)[:, 0].tolist() == expected


def test_all_but_the_rarest_coordinates_are_inside() -> None:
    vectors = unit_vectors(500, 384)
    ranges = choose_ranges(vectors).array(384)
    outside = (vectors < ranges[0]) | (vectors > ranges[1])
    assert 0 < outside.mean() < 2e-4


def test_the_command_makes_the_shipped_ranges_again(
    model: Model, worker: object, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = find_calibration(model)
    call_command("models", "calibrate", MODEL_ID)
    made = find_calibration(model)
    assert shipped is not None
    assert made is not None
    assert capsys.readouterr().out == (
        f"{MODEL_ID} is calibrated: ranges {made.version} for 384 dimensions, "
        f"in {calibration_file(model)}.\n"
    )
    assert made.corpus == shipped.corpus
    assert made.method == shipped.method
    # Another processor rounds otherwise; docs/quantization.md states this tolerance.
    assert abs(_step(made) - _step(shipped)) <= STEP_UNIT


def _step(calibration: Calibration) -> float:
    ranges = calibration.ranges(384)
    assert ranges is not None
    return float(ranges[1, 0] - ranges[0, 0]) / 255


def test_every_prompt_is_calibrated_for(model: Model, worker: object, tmp_path: Path) -> None:
    """Two prompts take twice as many steps."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a text\n" * 100)
    prompted = msgspec.structs.replace(model, prompts={"search_query": "query: "})
    for asked, texts in ((model, 100), (prompted, 200)):
        progress: list[tuple[int, int]] = []
        asyncio.run(
            calibrate(
                asked,
                corpus,
                pool=shared_pools()[0],
                on_progress=lambda *seen, progress=progress: progress.append(seen),
            )
        )
        assert progress[-1] == (texts, texts)


def test_an_upstream_is_calibrated_as_it_answers(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch, redis_client: object
) -> None:
    monkeypatch.setenv("COHERE_API_KEY", KEY)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"text {number}\n" for number in range(100)))
    with running_stand_in() as stand_in:
        upstream = CohereUpstream(model="embed-v4.0", url=stand_in.url)
        served = msgspec.structs.replace(
            model,
            upstream=upstream,
            dimensions=DIMENSIONS,
            output_dimensions=(),
            default_output_dimension=0,
        )
        made = asyncio.run(
            calibrate(served, corpus, pool=shared_pools()[0], on_progress=lambda *_: None)
        )
        input_types = {call.body["input_type"] for call in stand_in.calls}
    assert input_types == set(INPUT_TYPES)
    once = unit_rows([f"text {number}" for number in range(100)]).astype(np.float32)
    each_type = np.tile(once, (len(INPUT_TYPES), 1))
    assert made.dimensions == {DIMENSIONS: choose_ranges(each_type)}


def test_the_command_says_that_no_worker_is_running(
    model: Model, redis_client: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.calibration.PATIENCE_S", 0.0)
    with pytest.raises(CommandError, match=r"no worker is running; .* starts one"):
        call_command("models", "calibrate", MODEL_ID, "--pool", "nobody")
    assert not calibration_file(model).exists()


def test_the_command_says_what_is_wrong_with_a_corpus(model: Model, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"cannot be read: .*No such file"):
        call_command("models", "calibrate", MODEL_ID, "--corpus", str(tmp_path / "none.txt"))
    (corpus := tmp_path / "corpus.txt").write_bytes(b"caf\xe9\n" * 100)
    with pytest.raises(CommandError, match=r"cannot be read: .*utf-8"):
        call_command("models", "calibrate", MODEL_ID, "--corpus", str(corpus))


def test_the_command_writes_where_it_is_told(model: Model, worker: object, tmp_path: Path) -> None:
    (corpus := tmp_path / "corpus.txt").write_text("a text\n" * 100)
    output = tmp_path / "ranges" / "mine.json"
    call_command("models", "calibrate", MODEL_ID, "--corpus", str(corpus), "--output", str(output))
    made = json.loads(output.read_bytes())
    assert made["model"] == MODEL_ID
    assert made["corpus"] == {
        "name": "corpus.txt",
        "sha256": sha256(corpus.read_bytes()).hexdigest(),
        "texts": 100,
    }
    assert not calibration_file(model).exists()


def test_what_was_made_here_comes_before_what_is_shipped(model: Model) -> None:
    made = make(model, choose_ranges(unit_vectors(100, 384)))
    write_calibration(made, calibration_file(model))
    assert find_calibration(model) == made
    again = make(model, Ranges(minimum=-0.5, maximum=0.5))
    write_calibration(again, calibration_file(model))
    assert find_calibration(model) == again


def test_ranges_may_differ_by_coordinate(model: Model) -> None:
    least = tuple(-0.25 - index / 1024 for index in range(384))
    write_calibration(make(model, Ranges(minimum=least, maximum=0.5)), calibration_file(model))
    calibration = find_calibration(model)
    assert calibration is not None
    ranges = calibration.ranges(384)
    assert ranges is not None
    assert ranges[0].tolist() == list(least)
    assert (ranges[1] == 0.5).all()


def test_ranges_of_other_weights_are_not_used(model: Model) -> None:
    other = msgspec.structs.replace(model, sha256="0" * 64)
    assert find_calibration(other) is None
    made = make(other, choose_ranges(unit_vectors(100, 384)))
    write_calibration(made, calibration_file(other))
    assert find_calibration(other) == made
    shipped = find_calibration(model)
    assert shipped is not None
    assert shipped != made


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": "0" * 12}, "the version of these ranges is [0-9a-f]{12}, not 000000000000"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"corpus": None}, "corpus"),
        (
            {"dimensions": {"384": {"minimum": [0.0] * 3, "maximum": 1.0}}},
            "384 dimensions need one number, or 384",
        ),
        ({"dimensions": {"384": {"minimum": 0.5, "maximum": -0.5}}}, "above its maximum"),
        ({"dimensions": {"384": {"minimum": 0.5, "maximum": 1e39}}}, "<= 1000000"),
        ({"dimensions": {"0": {"minimum": 0.0, "maximum": 1.0}}}, "dimensions"),
    ],
)
def test_says_what_is_wrong_with_a_file(model: Model, change: dict[str, Any], problem: str) -> None:
    file = calibration_file(model)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(shipped_document(model) | change))
    with pytest.raises(InvalidCalibration, match=problem) as raised:
        find_calibration(model)
    assert str(file) in str(raised.value)


def test_says_that_a_file_is_no_json(model: Model) -> None:
    file = calibration_file(model)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xff not JSON")
    with pytest.raises(InvalidCalibration):
        find_calibration(model)


def test_a_corpus_needs_a_hundred_texts(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("# where it is from\n\n" + "a text\n" * 99)
    with pytest.raises(CannotCalibrate, match="has 99 texts, a line each: at least 100 are needed"):
        read_corpus(file)
    file.write_text("# where it is from\n\n" + "a text\n" * 100)
    assert len(read_corpus(file)[1]) == 100
