"""When two answers, or two outputs, are the same: but for names, ids, dates and prices."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from tests.recordings.recorded import FOLDER, Request, template
from tests.recordings.wordings import WORDINGS

_VARYING = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "DATE"),
    (re.compile(r"\b[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d{4} \d\d:\d\d:\d\d GMT[^\n]*"), "DATE"),
    (re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d [+-]\d{4}( \(~? ?\d+\w+ ago\))?"), "DATE"),
    (re.compile(r"\b\d{1,2}/\d{1,2}/\d{4}\b"), "DATE"),
    (re.compile(r"(?<=try again in )[\d.]+m?s\b"), "WAIT"),
    (re.compile(r"inf-ID|inf_[0-9A-Za-z]{49}"), "KEY"),
    (re.compile(r"lab-signing-secret|\b[0-9a-f]{64}\b"), "SECRET"),
    (re.compile(r"HRKU-[0-9A-Za-z-]+"), "TOKEN"),
    (re.compile(r"\b[a-z]+-[a-z]+-\d{5}\b"), "NAME"),
    (re.compile(r"\bINFERENCE_(?!KEY|MODEL|URL)[A-Z]+"), "INFERENCE_COLOUR"),
    (re.compile(r"~?\$[\d.,]+(/(hour|month))?"), "PRICE"),
    (re.compile(r"https?://[^\s\"',)]+"), "URL"),
)
# Models that write and draw: Annex embeds.
UNSERVED = ("claude", "stable-image")
SUCCESSES = {200, 204, 206}


def normal(text: str) -> str:
    """`text` without what may differ."""
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text


def answer_differences(
    recorded: Request, status: int, answer: Any, *, is_after_a_change: bool = False
) -> list[str]:
    """How Annex's answer differs from the recorded one in what the CLI looks at.

    After a change it looks at the newest release's version only.
    """
    if _is_never_read(recorded):
        return []
    if not _is_same_status(recorded.status, status):
        return [f"status {status}, recorded was {recorded.status}: {answer}"]
    if status >= 300:
        return list(_error_differences(recorded.answer, answer))
    if recorded.path.endswith("/config-vars"):
        return list(_config_differences(recorded.answer, answer))
    paths = needed_fields().get(template(recorded.method, recorded.path), [])
    if is_after_a_change and recorded.path.endswith("/releases"):
        paths = [path for path in paths if path == "[].version"]
    return [difference for path in paths for difference in _at(path, recorded.answer, answer)]


def _is_never_read(recorded: Request) -> bool:
    """Where the stub had no route, and where the CLI takes any error for "none"."""
    is_gap = "API endpoint was not found" in str(recorded.answer)
    return is_gap or recorded.path.endswith("/pipeline-couplings")


def _is_same_status(recorded: int, status: int) -> bool:
    return recorded == status or {recorded, status} <= SUCCESSES


@cache
def needed_fields() -> dict[str, list[str]]:
    """By request, the fields without which a command fails or says something else: measured."""
    fields: dict[str, list[str]] = json.loads((FOLDER / "needed_fields.json").read_text())
    return fields


def _error_differences(recorded: Mapping[str, Any], answer: Any) -> Iterator[str]:
    if not isinstance(answer, Mapping) or not isinstance(recorded, Mapping):
        yield f"{answer!r}, recorded was {recorded!r}"
        return
    for name in ("id", "resource"):
        known = str(recorded.get(name)).replace("_", "-")
        if name in recorded and str(answer.get(name)).replace("_", "-") != known:
            yield f"{name} {answer.get(name)!r}, recorded was {recorded[name]!r}"
    if not is_same_wording(str(recorded.get("message")), str(answer.get("message"))):
        yield f"message {answer.get('message')!r}, recorded was {recorded.get('message')!r}"


def is_same_wording(recorded: str, ours: str) -> bool:
    recorded, ours = words(recorded), words(ours)
    return recorded == ours or any(
        (words(wording.recorded), words(wording.annex)) == (recorded, ours) for wording in WORDINGS
    )


def words(text: str) -> str:
    return " ".join(normal(text).split())


def _config_differences(recorded: Mapping[str, str], answer: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(recorded.keys() | answer.keys()):
        one, other = recorded.get(name), answer.get(name)
        if one is None or other is None or normal(one) != normal(other):
            yield f"config var {name} is {other!r}, recorded was {one!r}"


def _at(path: str, recorded: Any, answer: Any) -> Iterator[str]:
    known = list(_values(path, without_unserved(recorded)))
    ours = list(_values(path, answer))
    if len(known) > len(ours):
        yield f"{path} is missing: {len(ours)} of {len(known)}"
        return
    if "price" in path:
        return
    for one, other in zip(known, ours, strict=False):
        if type(one) is not type(other) or (
            isinstance(one, str | int | bool) and normal(str(one)) != normal(str(other))
        ):
            yield f"{path} is {other!r}, recorded was {one!r}"


def without_unserved(answer: Any) -> Any:
    """A list without the models, and the plans of models, that Annex does not serve at all."""
    if not isinstance(answer, list):
        return answer
    return [item for item in answer if not any(model in str(item) for model in UNSERVED)]


def _values(path: str, value: Any) -> Iterator[Any]:
    """The values at `[].addon.app.name`, in the order of what they belong to."""
    if not path:
        yield value
        return
    step, _, rest = path.partition(".")
    if step == "[]":
        for item in sorted(value, key=_order) if isinstance(value, list) else []:
            yield from _values(rest, item)
    elif isinstance(value, Mapping) and step in value:
        yield from _values(rest, value[step])


def _order(item: Any) -> str:
    """Lists are in no order that the CLI relies on, but for releases: those are numbered."""
    if not isinstance(item, Mapping):
        return str(item)
    return "|".join(str(item.get(name)) for name in ("version", "name", "url", "user"))
