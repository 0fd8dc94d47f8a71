"""Scopes: what an access token may be used for, as Heroku has them.

Every route is in one area; what it takes there to read and to change is one table. A route that
says nothing is in RESOURCES, so a token needs at least `read` for it.
"""

from collections.abc import Iterable
from enum import StrEnum, auto


class Scope(StrEnum):
    GLOBAL = "global"  # everything
    IDENTITY = "identity"  # who the account is
    READ = "read"  # everything but the values of config vars
    WRITE = "write"  # likewise, and changes
    READ_PROTECTED = "read-protected"  # the values of config vars too
    WRITE_PROTECTED = "write-protected"  # likewise, and changes of both


class Area(StrEnum):
    ACCOUNT = auto()
    RESOURCES = auto()
    LOOK_UP = auto()  # POST requests that change nothing
    CONFIG_VARS = auto()
    SIGN_ON = auto()  # a form with which a provider lets somebody do all that its pages can


SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# Area → the scope that reading needs, and the one that changing needs.
NEEDED: dict[Area, tuple[Scope, Scope]] = {
    Area.ACCOUNT: (Scope.IDENTITY, Scope.GLOBAL),
    Area.RESOURCES: (Scope.READ, Scope.WRITE),
    Area.LOOK_UP: (Scope.READ, Scope.READ),
    Area.CONFIG_VARS: (Scope.READ_PROTECTED, Scope.WRITE_PROTECTED),
    Area.SIGN_ON: (Scope.WRITE_PROTECTED, Scope.WRITE_PROTECTED),
}

_READ = frozenset({Scope.READ, Scope.IDENTITY})
# Scope → itself and every scope that is less.
INCLUDED: dict[Scope, frozenset[Scope]] = {
    Scope.GLOBAL: frozenset(Scope),
    Scope.IDENTITY: frozenset({Scope.IDENTITY}),
    Scope.READ: _READ,
    Scope.WRITE: _READ | {Scope.WRITE},
    Scope.READ_PROTECTED: _READ | {Scope.READ_PROTECTED},
    Scope.WRITE_PROTECTED: frozenset(Scope) - {Scope.GLOBAL},
}


class InvalidScope(Exception):
    """There is no such scope; the text names those that there are."""


class InsufficientScope(Exception):
    """The token's scopes are too little for this; the text names the one that is needed."""

    def __init__(self, own: Iterable[str], needed: Iterable[Scope]) -> None:
        wanted = " and ".join(sorted(needed))
        super().__init__(
            f"This needs an access token with the scope {wanted} or one that includes it; this "
            f"token has {', '.join(own)}"
        )


def parse_scopes(names: Iterable[str]) -> tuple[Scope, ...]:
    """Each once, in the order given. Raises InvalidScope."""
    try:
        return tuple(dict.fromkeys(map(Scope, names)))
    except ValueError:
        raise InvalidScope(f"scope must be a list of {', '.join(Scope)}") from None


def require_scope(own: Iterable[str], area: Area, method: str) -> None:
    """Raises InsufficientScope."""
    reading, changing = NEEDED[area]
    require_scopes(own, [reading if method in SAFE_METHODS else changing])


def require_scopes(own: Iterable[str], wanted: Iterable[str]) -> None:
    """That `own` has all that `wanted` has. Raises InsufficientScope."""
    missing = _included(wanted) - _included(own)
    if missing:
        largest = [
            scope for scope in missing if not any(scope in INCLUDED[o] - {o} for o in missing)
        ]
        raise InsufficientScope(own, largest)


def _included(names: Iterable[str]) -> frozenset[Scope]:
    return frozenset().union(*(INCLUDED[Scope(name)] for name in names))
