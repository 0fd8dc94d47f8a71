"""The audit of a round: the ledger against what clients were answered.

Rows are matched with requests by their number of tokens, which no two requests of a round share. A
row whose answer was not delivered is possible in two cases only, and only for a request that is
never repeated; it is counted, and proven to be one of them.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from redis import Redis

from tests.chaos.clients import REPEATED_STATUSES, Exchange
from tests.chaos.deployment import Attachment, Deployment
from tests.chaos.schedule import MODEL_ID

# The special tokens around each text.
AROUND = 2
SAME_WITHIN = 1e-4
WINDOW_S = 60
# What a request may take: its deadline, and what the database may take before and after it.
ATTEMPT_WITHIN_S = 15.0

KILLED_BEFORE_SENT = "web killed between commit and delivery"
COMMIT_UNHEARD = "commit not heard of"


# (B, D) of the texts of a request, by how many words they have.
Vectors = dict[tuple[int, ...], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the ledger, as far as it is audited."""

    event_id: str
    tokens: int
    inputs: int
    cost_picounits: int


@dataclass(kw_only=True)
class Findings:
    """`wrong`: what must not be; `residual`: rows without a delivered answer, by their reason."""

    wrong: list[str] = field(default_factory=list)
    residual: Counter[str] = field(default_factory=Counter)


def token_count(exchange: Exchange) -> int:
    return sum(words + AROUND for words in exchange.request.words)


def read_rows(deployment: Deployment, attachment: Attachment) -> list[Row]:
    found = deployment.query(
        """SELECT id, text_tokens, inputs, cost_picounits FROM billing_usageevent
        WHERE attachment_id = %s ORDER BY id""",
        attachment.id,
    )
    return [
        Row(event_id=str(id_), tokens=tokens, inputs=inputs, cost_picounits=cost)
        for id_, tokens, inputs, cost in found
    ]


def audit_sums(deployment: Deployment, attachment: Attachment, rows: Sequence[Row]) -> list[str]:
    """The sums of the hours and of the days are those of the rows."""
    found = deployment.query(
        """SELECT granularity, sum(requests), sum(inputs), sum(text_tokens), sum(cost_picounits)
        FROM billing_usagesum WHERE attachment_id = %s GROUP BY granularity""",
        attachment.id,
    )
    sums = {granularity: tuple(map(int, amounts)) for granularity, *amounts in found}
    of_rows = (
        len(rows),
        sum(row.inputs for row in rows),
        sum(row.tokens for row in rows),
        sum(row.cost_picounits for row in rows),
    )
    expected = {"hour": of_rows, "day": of_rows} if rows else {}
    return [] if sums == expected else [f"the sums are {sums}, the rows come to {of_rows}"]


def audit(
    exchanges: Sequence[Exchange],
    rows: Sequence[Row],
    *,
    web_deaths: Sequence[float],
    web_log: str,
    expected: Vectors,
) -> Findings:
    findings = Findings()
    by_tokens: dict[int, list[Row]] = {}
    for row in rows:
        by_tokens.setdefault(row.tokens, []).append(row)
    for exchange in exchanges:
        of_request = by_tokens.pop(token_count(exchange), [])
        for wrong in (
            *_check_attempts(exchange),
            *_check_answers(exchange, expected),
            *_check_rows(exchange, of_request, findings, web_deaths, web_log),
        ):
            findings.wrong.append(f"{wrong}: {exchange}; rows {of_request}")
    if by_tokens:
        findings.wrong.append(f"rows of no request: {by_tokens}")
    return findings


def _check_attempts(exchange: Exchange) -> list[str]:
    wrong = []
    for attempt in exchange.attempts:
        if attempt.took_s > ATTEMPT_WITHIN_S:
            wrong.append(f"an attempt took {attempt.took_s:.1f} s")
        if attempt.status == 500 or attempt.status not in (0, 200, *REPEATED_STATUSES):
            wrong.append(f"status {attempt.status} {attempt.body.decode()}")
    return wrong


def _check_answers(exchange: Exchange, expected: Vectors) -> list[str]:
    answers = exchange.answers
    if not answers:
        return ["never answered"] if exchange.request.key else []
    wrong = []
    if len({answer.body for answer in answers}) > 1:
        wrong.append("a repeat got another answer")
    if not np.allclose(exchange.vectors(), expected[exchange.request.words], atol=SAME_WITHIN):
        wrong.append("wrong vectors")
    return wrong


def _check_rows(
    exchange: Exchange,
    rows: Sequence[Row],
    findings: Findings,
    web_deaths: Sequence[float],
    web_log: str,
) -> list[str]:
    """An answer has one row, named by it; no request has two."""
    if len(rows) > 1:
        return ["billed more than once"]
    if exchange.answers:
        named = {answer.event_id for answer in exchange.answers}
        return [] if named == {row.event_id for row in rows} else ["answered, but not by its row"]
    if not rows:
        return []
    if exchange.request.key:
        return ["billed without an answer"]
    (row,), last = rows, exchange.attempts[-1]
    ended_at = last.at + last.took_s
    if last.outcome == "broken" and any(last.at <= at <= ended_at + 1 for at in web_deaths):
        findings.residual[KILLED_BEFORE_SENT] += 1
        return []
    if last.outcome == "refused" and row.event_id == last.request_id and _is_owned_up(row, web_log):
        findings.residual[COMMIT_UNHEARD] += 1
        return []
    return ["billed without an answer"]


def _is_owned_up(row: Row, web_log: str) -> bool:
    """Whether the web process has logged, as an error, that the row may exist."""
    named = re.findall(r"possibly stored, are the usage events ([-0-9a-f, ]+)", web_log)
    return any(row.event_id in events for events in named)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What Valkey has of an attachment and its customer; names as in reservation_scripts.py.

    `log`: tokens by entry; `holds`: picounits by hold; `spend`: None where it is not known.
    """

    log: dict[str, int]
    log_lapses_s: int
    total: int
    holds: dict[str, int]
    spend: int | None


def read_counts(deployment: Deployment, attachment: Attachment) -> Counts:
    subject = f"limits:{{{attachment.customer_id}}}:{attachment.id}:{MODEL_ID}"
    customer = f"limits:{{{attachment.customer_id}}}"

    def read(redis: Redis) -> Counts:
        log = _members(redis, f"{subject}:log")
        holds = _members(redis, f"{customer}:holds")
        spend = redis.hget(f"{customer}:spend", "account")
        known = redis.exists(f"{customer}:spend")
        return Counts(
            log={entry: int(entry.rpartition(":")[2]) for entry in log},
            log_lapses_s=redis.ttl(f"{subject}:log"),
            total=int(redis.get(f"{subject}:tokens") or 0),
            holds={hold: int(hold.split(":")[1]) for hold in holds},
            spend=int(spend or 0) if known else None,
        )

    return deployment.ask_valkey(read)


def _members(redis: Redis, key: str) -> list[str]:
    members: list[bytes] = redis.zrange(key, 0, -1)  # type: ignore[assignment]  # without scores
    return [member.decode() for member in members]


def audit_counts(
    counts: Counts, rows: Sequence[Row], *, may_be_held: bool, may_be_uncounted: bool
) -> list[str]:
    """The limits' window and the customer's spend against the rows.

    What a dead process had reserved `may_be_held` until it lapses. What a web process admitted
    without Valkey `may_be_uncounted` until it has told Valkey.
    """
    wrong = []
    if sum(counts.log.values()) != counts.total:
        wrong.append(f"the limits' log and total differ: {counts}")
    if counts.log and not 0 < counts.log_lapses_s <= WINDOW_S:
        wrong.append(f"the limits' log does not lapse: {counts}")
    known = {row.event_id for row in rows}
    held = {entry for entry, tokens in counts.log.items() if tokens}
    not_given_back = {entry for entry in held if entry.partition(":")[0] not in known}
    if not_given_back and not may_be_held:
        wrong.append(f"not given back: {not_given_back}")
    billed = sum(row.cost_picounits for row in rows)
    if counts.spend is not None:
        held_picounits = sum(counts.holds.values())
        is_counted = billed <= counts.spend or may_be_uncounted
        if counts.spend - held_picounits > billed or not is_counted:
            wrong.append(f"{billed} picounits are billed, but counted are {counts}")
    return wrong
