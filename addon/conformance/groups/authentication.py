"""HTTP Basic with the id and the password of the manifest, before anything else is looked at."""

from uuid import uuid4

from addon.conformance.checks import Failed, check
from addon.conformance.exchanges import Exchange
from addon.conformance.groups.repeats import require_same
from addon.conformance.run import Run

WRONG_PASSWORD = "wrong-password-of-the-conformance-suite"  # noqa: S105 - nobody's


def wrong(run: Run) -> tuple[str, str]:
    return run.manifest.id, WRONG_PASSWORD


def require_401(exchange: Exchange, what: str) -> None:
    if exchange.status != 401:
        raise Failed(f"{exchange.name} {what} was answered {exchange.said}; expected 401")


@check(
    "authentication.wrong-password",
    "a wrong password is a 401",
    "Else anybody provisions at the provider's expense.",
)
def wrong_password(run: Run) -> None:
    require_401(run.post(run.order(), auth=wrong(run)), "with a wrong password")


@check(
    "authentication.wrong-user",
    "another user with the right password is a 401",
    "Both are compared, or the password of one add-on opens another.",
)
def wrong_user(run: Run) -> None:
    auth = (f"{run.manifest.id}-other", run.manifest.password)
    require_401(run.post(run.order(), auth=auth), "with a wrong user")


@check(
    "authentication.none",
    "no credentials are a 401, for every method",
    "A route that was forgotten is the one that is found.",
)
def none(run: Run) -> None:
    uuid = str(uuid4())
    for exchange in (
        run.post(run.order(), anonymous=True),
        run.put(uuid, {"plan": run.subject.plan}, anonymous=True),
        run.delete(uuid, anonymous=True),
    ):
        require_401(exchange, "without credentials")


@check(
    "authentication.before-existence",
    "wrong credentials are a 401 for what there is not, too",
    "A 404 or 410 tells a stranger which uuids are customers'.",
)
def before_existence(run: Run) -> None:
    uuid = str(uuid4())
    require_401(run.put(uuid, {"plan": run.subject.plan}, auth=wrong(run)), "of an unknown uuid")
    require_401(run.delete(uuid, auth=wrong(run)), "of an unknown uuid")


@check(
    "authentication.before-content",
    "wrong credentials are a 401 for a malformed body, too",
    "What a stranger sends is not worth parsing, and errors about it explain the provider.",
)
def before_content(run: Run) -> None:
    require_401(run.client.send("POST", "", b"{", auth=wrong(run)), "with a malformed body")
    require_401(run.client.send("POST", "", {}, auth=wrong(run)), "with an empty body")


@check(
    "authentication.changes-nothing",
    "what wrong credentials asked for did not happen",
    "A 401 that comes after the work is no protection.",
)
def changes_nothing(run: Run) -> None:
    resource = run.shared()
    require_401(run.delete(resource.uuid, auth=wrong(run)), "of a resource")
    require_same(resource, run.post(resource.order))
