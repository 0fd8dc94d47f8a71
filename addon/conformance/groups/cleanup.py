"""After everything was removed again."""

from addon.conformance.checks import Failed, Skipped, check
from addon.conformance.run import Run


@check(
    "cleanup.nothing-left",
    "everything that the suite made is gone again",
    "A resource that cannot be removed is billed for ever, by somebody.",
)
def nothing_left(run: Run) -> None:
    if not run.exchanges:
        raise Skipped("nothing was asked")
    if run.left_behind:
        raise Failed(f"to be removed by hand: {', '.join(run.left_behind)}")
