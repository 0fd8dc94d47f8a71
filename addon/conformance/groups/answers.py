"""What all answers of the run have to have in common."""

from addon.conformance.checks import Failed, Skipped, Warned, check
from addon.conformance.exchanges import Exchange
from addon.conformance.run import Run


def answered(run: Run) -> list[Exchange]:
    if not run.exchanges:
        raise Skipped("nothing was asked")
    return [exchange for exchange in run.exchanges if exchange.status is not None]


def require_none(odd: list[Exchange], what: str) -> None:
    if odd:
        raise Failed(f"{len(odd)} {what}, the first to {odd[0].name} ({odd[0].said})")


@check(
    "answers.json",
    "every answer that has a body is a JSON object",
    "The platform reads id, config and message from it, also when it is an error.",
)
def json(run: Run) -> None:
    require_none([each for each in answered(run) if not each.is_json], "answers are no JSON object")


@check(
    "answers.content-type",
    "every answer that has a body has a JSON Content-Type",
    "Clients that go by it would not parse it; a 406 followed from that once.",
)
def content_type(run: Run) -> None:
    odd = [each for each in answered(run) if each.body and "json" not in each.content_type]
    if odd:
        raise Warned(f"{len(odd)} answers do not, the first to {odd[0].name}")


@check(
    "answers.no-redirect",
    "no answer is a redirect",
    "A platform does not follow one: it would send the password to another address.",
)
def no_redirect(run: Run) -> None:
    odd = [each for each in answered(run) if 300 <= (each.status or 0) < 400]
    require_none(odd, "answers are redirects")


@check(
    "answers.no-server-error",
    "no answer is a 5xx other than 503",
    "Whatever was asked, an error of the server is one to mend.",
)
def no_server_error(run: Run) -> None:
    odd = [each for each in answered(run) if (each.status or 0) >= 500 and each.status != 503]
    require_none(odd, "answers are server errors")


@check(
    "answers.in-time",
    "every request is answered, within 25 seconds",
    "Heroku waits no longer, and tells the customer that it failed.",
)
def in_time(run: Run) -> None:
    require_none(
        [
            each
            for each in run.exchanges
            if each.status is None or each.elapsed_s > run.subject.timeout_s
        ],
        "requests were not answered in time",
    )


@check(
    "answers.fast",
    "every request is answered within 3 seconds",
    "Heroku asks for it; what takes longer belongs behind a 202.",
)
def fast(run: Run) -> None:
    slowest = max(answered(run), key=lambda each: each.elapsed_s, default=None)
    if slowest is not None and slowest.elapsed_s > run.subject.slow_s:
        raise Warned(f"{slowest.name} took {slowest.elapsed_s:.1f} s")
