"""What counts as the same output of a command."""

from dataclasses import replace

from tests.recordings import excused
from tests.recordings.command import Output
from tests.recordings.outputs import output_differences
from tests.recordings.recorded import names, read_recording

RECORDING = read_recording("addons-create-as")
AS_RECORDED = Output(
    exit_code=RECORDING.exit_code,
    stdout=RECORDING.stdout,
    stderr=RECORDING.stderr,
    requests=(),
)


def test_names_may_differ_and_words_may_not() -> None:
    renamed = AS_RECORDED.stdout.replace("inference-acute-10001", "inference-calm-20002")
    assert output_differences(RECORDING, replace(AS_RECORDED, stdout=renamed)) == []
    for other in (
        replace(AS_RECORDED, stdout=renamed.replace("EMBEDDING_KEY, ", "")),
        replace(AS_RECORDED, stderr=AS_RECORDED.stderr.replace("metered", "free")),
        replace(AS_RECORDED, exit_code=1),
    ):
        assert output_differences(RECORDING, other) != []


def test_only_recordings_are_excused() -> None:
    assert {*excused.REQUESTS, *excused.OUTPUTS} <= set(names())
