"""Which limits hold for an attachment's use of a model, and which caps on what it spends.

Each limit is the first that is stated: by an override of the attachment for the model, of the
attachment for every model, of the account likewise, by the model's entry in the catalogue, by the
plan.
"""

import uuid
from collections.abc import Iterable, Sequence
from typing import Protocol

from django.conf import settings
from django.db.models import Q

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
    scope = LimitOverride.Scope
    found = LimitOverride.objects.filter(
        Q(scope=scope.ATTACHMENT, scope_id=attachment_id)
        | Q(scope=scope.ACCOUNT, scope_id=customer_id)
    )
    return tuple(sorted(found, key=lambda row: (row.scope == scope.ACCOUNT, not row.model_id)))


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
    scope = Budget.Scope
    found = Budget.objects.filter(
        Q(scope=scope.ATTACHMENT, scope_id=str(attachment_id))
        | Q(scope=scope.APP, scope_id=app_name)
        | Q(scope=scope.ACCOUNT),
        customer_id=customer_id,
        is_hard=True,
    ).only("scope", "scope_id", "limit_microunits")
    return tuple(
        Cap(
            scope=budget.scope,
            scope_id=budget.scope_id,
            limit_microunits=budget.limit_microunits,
        )
        for budget in found
    )


def _first(values: Iterable[int | None]) -> int | None:
    return next((value for value in values if value is not None), None)
