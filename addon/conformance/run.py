"""One run of the suite against one provider: what the checks share, and the cleaning up after them.

Whatever the suite provisions it deprovisions, also when a check fails or the run is interrupted.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from addon.conformance.checks import Check, Failed, Result, Skipped, Status, Warned
from addon.conformance.exchanges import Exchange, PartnerClient
from addon.conformance.platform_server import OrderedAddon, PlatformServer
from addon.manifest import Manifest
from addon.regions import PARTNER_NAMES

CLEANING_ATTEMPTS = 3
SILENT_AFTER = 3
LAST_GROUPS = frozenset({"answers", "cleanup"})
CLEANING_THREADS = 4
# Answers to a provision that say that nothing was made.
NOT_MADE = frozenset({400, 401, 403, 404, 405, 406, 409, 410, 415, 422})
GONE = frozenset({404, 410})


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is tested: a provider by its manifest, and the plans to test it with.

    `document` is the manifest as it was given; in `manifest` the URLs are those of this run.
    """

    document: Mapping[str, Any] = field(repr=False)
    manifest: Manifest
    plan: str
    other_plan: str | None = None
    async_plan: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 25.0
    slow_s: float = 3.0
    callbacks_within_s: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """One that was provisioned. `config` is all that the provider gave, at once or afterwards."""

    uuid: str
    order: Mapping[str, object] = field(repr=False)
    answer: Exchange
    config: Mapping[str, object] = field(repr=False)

    @property
    def provider_id(self) -> object:
        return self.answer.body.get("id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request for a resource, and what the platform heard of it. `is_finished`: it is there."""

    order: Mapping[str, object] = field(repr=False)
    answer: Exchange
    addon: OrderedAddon
    is_finished: bool


class Run:
    """What checks call. Several threads may send at once."""

    def __init__(self, subject: Subject, platform: PlatformServer) -> None:
        self.subject = subject
        self.manifest = subject.manifest
        self.platform = platform
        self.client = PartnerClient(
            self.manifest.base_url,
            self.manifest.id,
            self.manifest.password,
            timeout_s=subject.timeout_s,
        )
        self.left_behind: list[str] = []
        self._asked_for: dict[str, None] = {}
        self._perhaps_made: set[str] = set()
        self._removed: set[str] = set()
        self._asked: dict[str, Asked] = {}
        self._told: set[str] = set()  # plans of which a check has said that they failed
        self._login_moments: set[int] = set()

    @property
    def exchanges(self) -> Sequence[Exchange]:
        return self.client.exchanges

    @property
    def is_silent(self) -> bool:
        """Whether the provider is not worth waiting for: each request may take its 25 seconds."""
        last = self.exchanges[-SILENT_AFTER:]
        return len(last) == SILENT_AFTER and all(each.status is None for each in last)

    def order(self, plan: str | None = None, uuid: str | None = None) -> dict[str, object]:
        """What a platform sends to provision; `uuid` is a new one unless given."""
        plan, uuid = plan or self.subject.plan, uuid or str(uuid4())
        addon = self.platform.ordered(uuid, f"{self.manifest.id}-conformance-{uuid[:8]}", plan)
        order: dict[str, object] = {
            "uuid": uuid,
            "name": addon.name,
            "plan": plan,
            "region": self._region(),
            "callback_url": f"{self.platform.url}/addons/{uuid}",
            "oauth_grant": _grant(addon),
            "options": dict(self.subject.options),
        }
        if "log_input" in self.manifest.requires:
            order["log_input_url"] = f"{self.platform.url}/logs/{uuid}"
        if "syslog_drain" in self.manifest.requires:
            order["log_drain_token"] = f"d.{uuid}"
        return order

    def _region(self) -> str:
        """One that the manifest has."""
        known = (PARTNER_NAMES[name] for name in self.manifest.regions if name in PARTNER_NAMES)
        return next(known, PARTNER_NAMES["us"])

    def post(self, order: Mapping[str, object], **more: Any) -> Exchange:
        """Ask for a resource. It is removed when the run ends, whatever the answer says."""
        uuid = str(order.get("uuid"))
        self._asked_for[uuid] = None  # before it is sent: the run may be interrupted
        exchange = self.client.send("POST", "", order, **more)
        if exchange.status not in NOT_MADE:
            self._perhaps_made.add(uuid)
        return exchange

    def put(self, uuid: str, body: object, **more: Any) -> Exchange:
        target = "/heroku/resources/:uuid"
        return self.client.send("PUT", f"/{uuid}", body, target=target, **more)

    def delete(self, uuid: str, **more: Any) -> Exchange:
        target = "/heroku/resources/:uuid"
        return self.client.send("DELETE", f"/{uuid}", target=target, **more)

    def ask(self, plan: str | None = None) -> Asked:
        """Ask for a new resource; a 202 is awaited, but whether it comes to its end is told only
        by `is_finished`."""
        order = self.order(plan)
        exchange = self.post(order)
        addon = self.addon(str(order["uuid"]))
        is_finished = exchange.status in {200, 201}
        if exchange.status == 202:
            is_finished = self._hears(addon, "provision", 0)
        return Asked(order=order, answer=exchange, addon=addon, is_finished=is_finished)

    def provision(self, plan: str | None = None) -> Resource:
        """A new resource, awaited if the provider answers 202. Raises Failed."""
        return self._resource(self.ask(plan))

    def _resource(self, asked: Asked) -> Resource:
        if not asked.answer.is_success:
            said = asked.answer.said
            raise Failed(f"{asked.answer.name} was answered {said}; expected 200, 201 or 202")
        config = asked.answer.body.get("config")
        if asked.answer.status == 202:
            if not asked.is_finished:
                raise self._not_heard(asked.addon, "provision", 0)
            config = dict(asked.addon.config)
        return Resource(
            uuid=asked.addon.uuid,
            order=asked.order,
            answer=asked.answer,
            config=config if isinstance(config, Mapping) else {},
        )

    def await_callback(self, addon: OrderedAddon, kind: str, *, after: int = 0) -> None:
        """Return once the provider has called back so. Raises Failed when it does not."""
        if not self._hears(addon, kind, after):
            raise self._not_heard(addon, kind, after)

    def _hears(self, addon: OrderedAddon, kind: str, after: int) -> bool:
        within_s = self.subject.callbacks_within_s
        return self.platform.wait(lambda: bool(addon.accepted(kind, after=after)), within_s)

    def _not_heard(self, addon: OrderedAddon, kind: str, after: int) -> Failed:
        problems = [call.problem for call in addon.callbacks[after:] if call.problem]
        refused = f"; what came was refused: {problems[-1]}" if problems else ""
        within_s = self.subject.callbacks_within_s
        return Failed(f"after 202, actions/{kind} did not come within {within_s:g} s{refused}")

    def addon(self, uuid: str) -> OrderedAddon:
        found = self.platform.find(uuid)
        if found is None:
            raise LookupError(uuid)
        return found

    def shared_ask(self, plan: str) -> Asked:
        """The first resource of the plan that was asked for, whatever came of it."""
        if plan not in self._asked:
            self._asked[plan] = self.ask(plan)
        return self._asked[plan]

    def shared(self, plan: str | None = None) -> Resource:
        """One resource of the plan for all checks that leave it as it is.

        Raises Failed the first time that it cannot be had, and Skipped from then on.
        """
        plan = plan or self.subject.plan
        asked = self.shared_ask(plan)
        try:
            return self._resource(asked)
        except Failed:
            if plan in self._told:
                raise Skipped(f"nothing could be provisioned on the plan {plan}") from None
            self._told.add(plan)
            raise

    def deprovision(self, uuid: str) -> Exchange:
        """Awaited if the provider answers 202. Raises Failed when it is refused."""
        addon = self.addon(uuid)
        callbacks = len(addon.callbacks)
        exchange = self.delete(uuid)
        if not exchange.is_success:
            raise Failed(f"{exchange.name} was answered {exchange.said}; expected 200, 202 or 204")
        if exchange.status == 202:
            self.await_callback(addon, "deprovision", after=callbacks)
        addon.state = "deprovisioned"
        self._removed.add(uuid)
        return exchange

    def login_timestamp(self) -> int:
        """The last moment that no login had yet: one with the same would be taken for a replay."""
        moment = int(time.time())
        while moment in self._login_moments:
            moment -= 1
        self._login_moments.add(moment)
        return moment

    def clean_up(self) -> None:
        """Remove everything; what cannot be is in `left_behind`, all of it when interrupted."""
        remaining = [uuid for uuid in self._asked_for if uuid not in self._removed]
        self.left_behind = [uuid for uuid in remaining if uuid in self._perhaps_made]
        with ThreadPoolExecutor(CLEANING_THREADS) as threads:
            gone = dict(zip(remaining, threads.map(self._remove, remaining), strict=True))
        self.left_behind = [uuid for uuid in self.left_behind if not gone[uuid]]
        self.client.close()

    def _remove(self, uuid: str) -> bool:
        for attempt in range(1 if self.is_silent else CLEANING_ATTEMPTS):
            time.sleep(0.2 * attempt)
            exchange = self.client.send("DELETE", f"/{uuid}", target="/heroku/resources/:uuid")
            if exchange.is_success or exchange.status in GONE:
                self._await_removal(uuid, exchange)
                return True
        return False

    def _await_removal(self, uuid: str, exchange: Exchange) -> None:
        """A provider that calls back to a suite that has gone would try for a day."""
        addon = self.platform.find(uuid)
        if addon is None:
            return
        if exchange.status == 202:
            within_s = self.subject.callbacks_within_s
            self.platform.wait(lambda: bool(addon.accepted("deprovision")), within_s)
        addon.state = "deprovisioned"


def _grant(addon: OrderedAddon) -> dict[str, str]:
    return {
        "code": addon.code,
        "expires_at": addon.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "type": "authorization_code",
    }


def run_check(check: Check, run: Run) -> Result:
    started_at = time.monotonic()
    status, detail = Status.PASSED, ""
    try:
        if run.is_silent and check.group not in LAST_GROUPS:
            raise Skipped(f"the provider did not answer {SILENT_AFTER} requests in a row")
        check.function(run)
    except Failed as error:
        status, detail = Status.FAILED, str(error)
    except Warned as error:
        status, detail = Status.WARNED, str(error)
    except Skipped as error:
        status, detail = Status.SKIPPED, str(error)
    return Result(
        check=check, status=status, detail=detail, duration_s=time.monotonic() - started_at
    )


def run_checks(
    run: Run,
    checks: Sequence[Check],
    on_start: Callable[[Check, int], None],
    on_result: Callable[[Result], None],
) -> list[Result]:
    """Every check in turn, then the cleaning; the checks of the group cleanup come after it.

    Raises KeyboardInterrupt when interrupted, after the cleaning.
    """
    results: list[Result] = []

    def take(some: Sequence[Check]) -> None:
        for check in some:
            on_start(check, len(results))
            results.append(run_check(check, run))
            on_result(results[-1])

    last = [check for check in checks if check.group == "cleanup"]
    try:
        take([check for check in checks if check.group != "cleanup"])
    finally:
        run.clean_up()
    take(last)
    return results
