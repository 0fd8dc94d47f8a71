"""Which limits hold for an attachment's use of a model, and which caps on what it spends.

Each limit is the first that is stated: by an override of the attachment for the model, of the
attachment for every model, of the account likewise, by the model's entry in the catalogue, by the
plan.
"""

import uuid
from collections.abc import Iterable, Sequence
from typing import Protocol

from django.conf import settings
from django.db.models import Q, QuerySet

from billing.compiled_queries import CompiledQuery
from billing.models import Budget, LimitOverride
from billing.rate_limits import Cap, Limits


class StatesLimits(Protocol):
    """What may state limits; None leaves them to the next."""

    @property
    def requests_per_minute(self) -> int | None: ...

    @property
    def tokens_per_minute(self) -> int | None: ...

    @property
    def concurrent_requests(self) -> int | None: ...


def find_overrides(attachment_id: uuid.UUID, customer_id: uuid.UUID) -> tuple[LimitOverride, ...]:
    """Those that concern the attachment, the first to ask first."""
    found = _overrides_of.all(attachment_id, customer_id)
    account = LimitOverride.Scope.ACCOUNT
    return tuple(sorted(found, key=lambda row: (row.scope == account, not row.model_id)))


@CompiledQuery
def _overrides_of(attachment_id: uuid.UUID, customer_id: uuid.UUID) -> QuerySet[LimitOverride]:
    scope = LimitOverride.Scope
    return LimitOverride.objects.filter(
        Q(scope=scope.ATTACHMENT, scope_id=attachment_id)
        | Q(scope=scope.ACCOUNT, scope_id=customer_id)
    )


def effective_limits(
    model_id: str, overrides: Sequence[LimitOverride], *defaults: StatesLimits
) -> Limits:
    """The limits on the model, by `overrides` in the order of `find_overrides`, then `defaults`, of
    which the last states requests and tokens."""
    concerned = [row for row in overrides if row.model_id in ("", model_id)]
    stated: list[StatesLimits] = [*concerned, *defaults]
    is_shadow = _first(row.is_shadow for row in concerned)
    return Limits(
        requests=_first(each.requests_per_minute for each in stated) or 0,
        tokens=_first(each.tokens_per_minute for each in stated) or 0,
        concurrent=_first(each.concurrent_requests for each in stated),
        is_shadow=settings.LIMITS_SHADOW if is_shadow is None else bool(is_shadow),
    )


def find_caps(customer_id: uuid.UUID, app_name: str, attachment_id: uuid.UUID) -> tuple[Cap, ...]:
    """The hard budgets that the attachment's requests count in."""
    found = _hard_budgets.all(customer_id, app_name, str(attachment_id))
    return tuple(
        Cap(scope=scope, scope_id=scope_id, limit_microunits=limit_microunits)
        for scope, scope_id, limit_microunits in found
    )


@CompiledQuery
def _hard_budgets(
    customer_id: uuid.UUID, app_name: str, attachment_id: str
) -> QuerySet[Budget, tuple[str, str, int]]:
    scope = Budget.Scope
    found = Budget.objects.filter(
        Q(scope=scope.ATTACHMENT, scope_id=attachment_id)
        | Q(scope=scope.APP, scope_id=app_name)
        | Q(scope=scope.ACCOUNT),
        customer_id=customer_id,
        is_hard=True,
    )
    return found.values_list("scope", "scope_id", "limit_microunits")


def _first(values: Iterable[int | None]) -> int | None:
    return next((value for value in values if value is not None), None)
