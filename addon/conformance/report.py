"""What a run found, for people line by line and for programs as JSON."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from addon.conformance.checks import Check, Result, Status
from addon.conformance.run import Subject

WORDS = {
    Status.PASSED: "ok  ",
    Status.WARNED: "warn",
    Status.FAILED: "FAIL",
    Status.SKIPPED: "skip",
}


class LineReport:
    """One line a check, below the name of its group, as it ends; on a terminal also what runs."""

    def __init__(self, out: TextIO, progress: TextIO, total: int) -> None:
        self._out = out
        self._progress = progress if progress.isatty() else None
        self._total = total
        self._group = ""

    def start(self, check: Check, number: int) -> None:
        if self._progress is not None:
            columns = shutil.get_terminal_size().columns - 1
            line = f"[{number + 1}/{self._total}] {check.id}: {check.title} …"
            self._progress.write(f"\r\x1b[K{line[:columns]}")
            self._progress.flush()

    def result(self, result: Result) -> None:
        if self._progress is not None:
            self._progress.write("\r\x1b[K")
            self._progress.flush()
        if result.check.group != self._group:
            self._group = result.check.group
            self._out.write(f"\n{self._group}\n")
        self._out.write(f"{line_of(result)}\n")
        self._out.flush()

    def end(self, results: Sequence[Result]) -> None:
        self._out.write(f"\n{summary(results)}\n")


def line_of(result: Result) -> str:
    check = result.check
    found = f" → {result.detail}" if result.detail else ""
    return f"  {WORDS[result.status]} {check.id}: {check.title}.{found} ({check.why})"


def summary(results: Sequence[Result]) -> str:
    counts = Counter(result.status for result in results)
    return ", ".join(f"{counts[status]} {status}" for status in Status)


def as_json(subject: Subject, results: Sequence[Result], left_behind: Sequence[str]) -> str:
    document = {
        "manifest": subject.manifest.id,
        "base_url": subject.manifest.base_url,
        "plan": subject.plan,
        "change_to": subject.other_plan,
        "async_plan": subject.async_plan,
        "counts": dict.fromkeys(Status, 0) | Counter(result.status for result in results),
        "left_behind": list(left_behind),
        "checks": [
            {
                "id": result.check.id,
                "group": result.check.group,
                "title": result.check.title,
                "why": result.check.why,
                "status": result.status,
                "detail": result.detail,
                "duration_ms": round(result.duration_s * 1000),
            }
            for result in results
        ],
    }
    return json.dumps(document, indent=2)
