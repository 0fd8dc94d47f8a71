"""What a check is, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from addon.conformance.run import Run


class Status(StrEnum):
    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"


class Failed(Exception):
    """The provider does not do what the contract asks; the text says what it did. No secrets."""


class Warned(Exception):
    """The contract allows it, and still it will hurt."""


class Skipped(Exception):
    """The check does not apply, or cannot be made; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """`id` is its group and its name, joined by a dot."""

    id: str
    title: str
    why: str
    function: Callable[[Run], None]

    @property
    def group(self) -> str:
        return self.id.partition(".")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """`detail` is what was found, and empty when the check passed."""

    check: Check
    status: Status
    detail: str = ""
    duration_s: float = 0.0


CHECKS: list[Check] = []


def check(check_id: str, title: str, why: str) -> Callable[[Callable[[Run], None]], Check]:
    """Registers the function as a check, behind those that are there."""

    def register(function: Callable[[Run], None]) -> Check:
        made = Check(id=check_id, title=title, why=why, function=function)
        CHECKS.append(made)
        return made

    return register
