"""The checks, one module a group. Importing this registers all of them, in the order of a run."""

from addon.conformance.groups import (  # noqa: I001 - the order of a run
    manifest,
    provision,
    repeats,
    tolerance,
    authentication,
    errors,
    plan_change,
    attachments,
    concurrency,
    asynchronous,
    sso,
    deprovision,
    answers,
    cleanup,
)

__all__ = [
    "answers",
    "asynchronous",
    "attachments",
    "authentication",
    "cleanup",
    "concurrency",
    "deprovision",
    "errors",
    "manifest",
    "plan_change",
    "provision",
    "repeats",
    "sso",
    "tolerance",
]
