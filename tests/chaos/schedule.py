"""The schedule of a round: its requests, and what is killed when, all drawn from the round's seed.

The first fault of round n is the n-th of all combinations of a step, a moment and a victim, in an
order that looks random, so that a run of 200 rounds meets each of them. What else happens is drawn.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from tests.chaos.faults import BACKEND, HERE, REQUEST, Fault, Moment

MODEL_ID = "all-minilm-l6-v2"
INSTANT, ENGINE = "instant", "shared"
ENGINE_SHARE = 0.2
REQUESTS = 8
WITHOUT_KEY = 3
TEXTS_MAX = 2
ASKS_AGAIN_SHARE = 0.25
SECOND_FAULT_SHARE = 0.35
# Of the requests: how far apart they come; of the kills at any time: when.
SPREAD_S = 0.25
KILL_WITHIN_S = 0.8
DURING_MAX_S = 0.004

# A step, a moment and a victim.
Combination = tuple[str, Moment, str]

WEBS = ("web-0", "web-1")
WORKERS = {INSTANT: ("instant-0", "instant-1"), ENGINE: ("engine-0", "engine-1")}
SERVERS = ("valkey", "postgres", BACKEND)

# The steps of a request in their order (docs/reliability.md), and whose answer each waits for.
WEB_STEPS = {
    "authenticate": ("postgres", BACKEND),
    "claim": ("postgres", BACKEND),
    "tokenise": (),
    "reserve": ("valkey",),
    "publish": ("valkey", "worker"),
    "reply": ("worker",),
    "keep": ("postgres", BACKEND),
    "record": ("postgres", BACKEND),
    "settle": (),
    "send head": (),
    "send body": (),
    "give back": ("valkey",),
    "let go": ("postgres", BACKEND),
    "replay": ("valkey", "postgres", BACKEND),
}
WORKER_STEPS = {"take": (), "compute": (), "answer": ("valkey",)}
KEYED_STEPS = ("claim", "keep", "let go", "replay")
# Steps that only a request gets to which another fault has befallen before.
NEEDS: dict[str, Combination] = {
    "give back": ("encode", "before", REQUEST),
    "let go": ("encode", "before", REQUEST),
    "replay": ("send head", "before", HERE),
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """`words`: how many each text has; no two requests of a round have as many tokens. `key`: its
    idempotency key; with one it `asks_again` after the answer."""

    number: int
    words: tuple[int, ...]
    key: str | None
    start_s: float = 0.0
    asks_again: bool = False
    faults: tuple[Fault, ...] = ()

    @property
    def texts(self) -> list[str]:
        return ["word " * words for words in self.words]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """`kills`: victims, and when, in seconds of the round; `armed`: faults at workers' steps."""

    seed: int
    pool: str
    requests: tuple[Request, ...]
    armed: tuple[Fault, ...] = ()
    kills: tuple[tuple[float, str], ...] = ()

    @property
    def faults(self) -> tuple[Fault, ...]:
        return sum((request.faults for request in self.requests), self.armed)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, workers of the pool {self.pool}"]
        lines += [f"  {at_s:.3f} s: kill {victim}" for at_s, victim in self.kills]
        lines += [f"  whichever worker: kill {fault}" for fault in self.armed]
        for request in self.requests:
            key = "key" if request.key else "no key"
            faults = ", ".join(f"kill {fault}" for fault in request.faults)
            lines.append(
                f"  {request.start_s:.3f} s: request {request.number} ({key}) {faults}".rstrip()
            )
        return "\n".join(lines)


def combinations() -> list[Combination]:
    """Every step, before and after it each victim; during it, where it waits for another process,
    that one and its own."""
    found = list(_combine(WEB_STEPS, "worker")) + list(_combine(WORKER_STEPS, "web"))
    random.Random(0).shuffle(found)
    return found


def make_schedule(seed: int) -> Schedule:
    rng = random.Random(seed)
    pool = ENGINE if rng.random() < ENGINE_SHARE else INSTANT
    requests = list(_draw_requests(rng))
    all_combinations = combinations()
    main = all_combinations[seed % len(all_combinations)]
    wanted = [main, NEEDS[main[0]]] if main[0] in NEEDS else [main]
    faults = [_make_fault(rng, pool, f"{seed}-{n}", one) for n, one in enumerate(wanted)]
    at_web = tuple(fault for fault in faults if fault.step not in WORKER_STEPS)
    keyed = [request.key is not None for request in requests]
    chosen = keyed.index(True) if main[0] in KEYED_STEPS else rng.randrange(REQUESTS)
    requests[chosen] = replace(requests[chosen], faults=at_web)
    kills = []
    if rng.random() < SECOND_FAULT_SHARE:
        kills.append((rng.uniform(0, KILL_WITHIN_S), rng.choice(_victims(pool))))
    return Schedule(
        seed=seed,
        pool=pool,
        requests=tuple(requests),
        armed=tuple(fault for fault in faults if fault.step in WORKER_STEPS),
        kills=tuple(kills),
    )


def make_request(number: int, *, texts: int, key: str | None) -> Request:
    """Request `number` of a round, that comes at once."""
    words = 10 * (number + 1)
    return Request(number=number, words=tuple(words + text for text in range(texts)), key=key)


def _combine(steps: dict[str, tuple[str, ...]], other: str) -> Iterator[Combination]:
    for step, moment in product(steps, ("before", "after")):
        for victim in (HERE, other, *SERVERS):
            yield step, moment, victim  # type: ignore[misc]  # a str of the two is a Moment
    for step, awaited in steps.items():
        for victim in (HERE, *awaited) if awaited else ():
            yield step, "during", victim


def _draw_requests(rng: random.Random) -> Iterator[Request]:
    keyless = set(rng.sample(range(REQUESTS), WITHOUT_KEY))
    for number in range(REQUESTS):
        key = None if number in keyless else f"key-{number}"
        request = make_request(number, texts=rng.randint(1, TEXTS_MAX), key=key)
        yield replace(
            request,
            start_s=rng.uniform(0, SPREAD_S),
            asks_again=key is not None and rng.random() < ASKS_AGAIN_SHARE,
        )


def _make_fault(rng: random.Random, pool: str, name: str, one: Combination) -> Fault:
    step, moment, victim = one
    names = {"web": WEBS, "worker": WORKERS[pool]}
    victim = rng.choice(names[victim]) if victim in names else victim
    delay_s = rng.uniform(0, DURING_MAX_S)
    return Fault(name=name, step=step, moment=moment, victim=victim, delay_s=delay_s)


def _victims(pool: str) -> tuple[str, ...]:
    return (*WEBS, *WORKERS[pool], *SERVERS)
