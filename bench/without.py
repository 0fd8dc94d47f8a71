"""The web process with parts of a request left out, to see what each costs:
`BENCH_WITHOUT=limits,metering granian … bench.without:application`. Never to be served for real."""

import os
from collections.abc import Sequence

from config.asgi import application  # sets Django up, which the others need

# isort: split

from billing.local_share import FailoverLimiter
from billing.metering import Ledger, Usage
from billing.rate_limits import Cap, Limiter, Limits, Reservation, Share, Standing
from inference import authentication, views

__all__ = ["application"]

VARIABLE = "BENCH_WITHOUT"

_callers: dict[str | None, authentication.Caller] = {}


async def _authenticate_once(authorization: str | None) -> authentication.Caller:
    if authorization not in _callers:
        _callers[authorization] = await authentication.authenticate(authorization)
    return _callers[authorization]


async def _reserve_nothing(
    self: Limiter, share: Share, limits: Limits, caps: Sequence[Cap] = ()
) -> Reservation:
    standing = Standing(limits=limits, used_requests=0, used_tokens=0, reset_s=0.0, asked_at=0.0)
    return Reservation(share=share, standing=standing)


def _settle_nothing(self: Limiter, share: Share) -> None:
    pass


async def _record_nothing(self: Ledger, usage: Usage) -> None:
    pass


_left_out = os.environ[VARIABLE].split(",")
if "authentication" in _left_out:
    views.authenticate = _authenticate_once  # type: ignore[attr-defined]
if "limits" in _left_out:
    FailoverLimiter.reserve = _reserve_nothing  # type: ignore[method-assign]
    FailoverLimiter.settle = _settle_nothing  # type: ignore[method-assign]
if "metering" in _left_out:
    Ledger.record = _record_nothing  # type: ignore[method-assign]
