"""When a provider is asked again. Pure.

Claiming a piece of work sets its next attempt; that moment is the claimant's lease and, should the
attempt fail or its process die, the time of the next one. While a call lasts its lease is renewed,
so that the shortest wait may be shorter than the longest call.
"""

from datetime import timedelta

CALL_TIMEOUT_S = 25.0
FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(hours=1)
# After this the call of a process that may be dead is over, and a removal does not overtake it.
CALL_IS_OVER = timedelta(seconds=30)

# How long a provision may take that gives no clear answer, and whatever was answered 202.
PROVISION_WINDOW = timedelta(hours=24)
ASYNC_WINDOW = timedelta(hours=12)


def wait_after(attempts: int) -> timedelta:
    """10 s after the first attempt, then twice as long each time, up to an hour."""
    factor: int = 2 ** min(max(attempts - 1, 0), 10)
    return min(FIRST_WAIT * factor, LONGEST_WAIT)
