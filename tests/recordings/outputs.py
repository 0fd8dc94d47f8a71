"""What a person saw, then and now, word by word: without names, ids, dates, prices and widths."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from difflib import unified_diff
from typing import Any

from tests.recordings.command import Output, without_control
from tests.recordings.comparison import UNSERVED, normal, without_unserved
from tests.recordings.recorded import Recording, template
from tests.recordings.wordings import ADDED, WORDINGS

_MODEL = re.compile(r"all-minilm-l6-v2|cohere-embed-(multilingual|v4)|claude-4-sonnet")
# What was measured, and what a text means: they are not what a command is about.
_PERFORMANCE = re.compile(r"(latency [\d.]+sec, )?\d+ tokens/sec")
_TOKENS = re.compile(r'(?<=_tokens": )\d+')
_VECTOR = re.compile(r"-?\d+\.\d+(e-\d+)?(, ?-?\d+(\.\d+)?(e-\d+)?)+")
_RULE = re.compile(r"[─-]{4,}")
_SPINNER = re.compile("[\u2800-\u28ff]")
_MARK = re.compile("^ ?\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} ?", re.MULTILINE)


def output_differences(recording: Recording, output: Output) -> list[str]:
    found = []
    if recording.exit_code != output.exit_code:
        found.append(f"exit code {output.exit_code}, recorded was {recording.exit_code}")
    stderr = "" if recording.has_terminal else recording.stderr
    for name, recorded, ours in (
        ("stdout", recording.stdout, output.stdout),
        ("stderr", stderr, output.stderr),
    ):
        found += [f"{name}: {line}" for line in _text_differences(recorded, ours)]
    return found


def request_differences(recording: Recording, output: Output) -> list[str]:
    """Requests that the CLI made less or more often than then."""
    recorded = Counter(template(request.method, request.path) for request in recording.requests)
    ours = Counter(
        template(*line.split(" ", 1)) for line in output.requests if not _is_telemetry(line)
    )
    return [
        f"{key}: {ours[key]} times, recorded were {recorded[key]}"
        for key in sorted(recorded | ours)
        if recorded[key] != ours[key]
    ]


def _is_telemetry(line: str) -> bool:
    """What a process that the CLI leaves behind tries to tell heroku.com."""
    return line.startswith(("GET /hamurai", "POST /otel/"))


def _text_differences(recorded: str, ours: str) -> Iterator[str]:
    known, seen = without_unserved(_json(recorded)), _json(ours)
    if known is not None and seen is not None:
        yield from _json_differences("", known, seen)
        return
    one, other = _words(recorded), _words(ours)
    for wording in WORDINGS:
        one = one.replace(_flat(wording.recorded), _flat(wording.annex))
    for added in ADDED:
        if not re.search(added.annex, one):
            other = " ".join(re.sub(added.annex, " ", other).split())
    if one != other:
        yield from list(unified_diff(one.split(" "), other.split(" "), n=2, lineterm=""))[2:]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _json_differences(path: str, recorded: Any, ours: Any) -> Iterator[str]:
    """What is missing, of another type or another value. Fields more are Heroku's too."""
    if isinstance(recorded, dict) and isinstance(ours, dict):
        for name in recorded:
            if name in ours:
                yield from _json_differences(f"{path}.{name}", recorded[name], ours[name])
            elif recorded[name] is not None:
                yield f"{path}.{name} is missing"
    elif isinstance(recorded, list) and isinstance(ours, list):
        is_vector = bool(recorded) and isinstance(recorded[0], float)
        if is_vector or len(recorded) != len(ours):
            if not (is_vector and ours and all(isinstance(item, float) for item in ours)):
                yield f"{path} has {len(ours)} items, recorded were {len(recorded)}"
            return
        for number, (one, other) in enumerate(zip(recorded, ours, strict=True)):
            yield from _json_differences(f"{path}[{number}]", one, other)
    elif isinstance(recorded, str) and isinstance(ours, str):
        if _flat(recorded) != _flat(ours):
            yield f"{path} is {ours!r}, recorded was {recorded!r}"
    elif recorded != ours and not _is_free(path, recorded, ours):
        yield f"{path} is {ours!r}, recorded was {recorded!r}"


def _is_free(path: str, recorded: Any, ours: Any) -> bool:
    """Prices and counts of tokens; and what is null here or there."""
    is_number = isinstance(recorded, int | float) and isinstance(ours, int | float)
    return None in (recorded, ours) or (
        is_number and path.endswith(("cents", "tokens", "metered", "allow_tracking"))
    )


def _words(text: str) -> str:
    text = text.replace("\N{BLACK HEXAGON} ", "")  # before an app's name, in some terminals
    text = _SPINNER.sub("\n", _MARK.sub("", without_control(text)))
    lines = text.replace("\r\n", "\n").split("\n")
    lines = [
        _spaced(_shown(line)) for line in lines if not any(model in line for model in UNSERVED)
    ]
    # What was in progress and then done is one line; a table's lines of the same words too.
    kept: list[str] = []
    for line in filter(str.strip, map(_flat, lines)):
        if line.endswith("...") and line in kept:
            continue
        if kept and line.startswith(kept[-1]):
            kept.pop()
        kept.append(line)
    return _flat(" ".join(kept))


def _spaced(line: str) -> str:
    """JSON with the spaces that Python writes."""
    value = _json(line)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else line


def _shown(line: str) -> str:
    """What is left of a line that was written over."""
    line = line.rsplit("\r", 1)[-1]
    answered = line.rfind("✔")
    if answered >= 0:
        return line[answered:]
    return line[line.rfind("? ") :] if line.startswith("? ") else line


def _flat(text: str) -> str:
    text = _VECTOR.sub("VECTOR", _PERFORMANCE.sub("PERFORMANCE", normal(text)))
    text = _TOKENS.sub("N", text)
    text = _RULE.sub("─", _MODEL.sub("MODEL", text))
    return " ".join(text.split())
