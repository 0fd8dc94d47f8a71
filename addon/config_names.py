"""The names of attachments and of the config vars under them. Pure.

An attachment's name (its alias) is the prefix of its config vars: the manifest's INFERENCE_URL is
EMBEDDING_URL under the alias EMBEDDING.
"""

import re
from collections.abc import Callable
from itertools import count

ALIAS_PATTERN = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII | re.IGNORECASE)
ALIAS_MAX_CHARACTERS = 128

COLOURS = (
    "AQUA",
    "BLACK",
    "BLUE",
    "FUCHSIA",
    "GRAY",
    "GREEN",
    "LIME",
    "MAROON",
    "NAVY",
    "OLIVE",
    "PURPLE",
    "RED",
    "SILVER",
    "TEAL",
    "WHITE",
    "YELLOW",
)


class InvalidAlias(Exception):
    """An attachment cannot have this name."""


def parse_alias(text: str) -> str:
    """The alias that a user typed, in capitals. Raises InvalidAlias."""
    if not ALIAS_PATTERN.fullmatch(text):  # before upper(), which makes an SS of an ß
        # The AI plugin of the CLI looks for the words "start with a letter".
        raise InvalidAlias(
            "Name must start with a letter and can only contain uppercase letters, numbers, and "
            f"underscores; {text!r} does not"
        )
    if len(text) > ALIAS_MAX_CHARACTERS:
        raise InvalidAlias(f"Name can have at most {ALIAS_MAX_CHARACTERS} characters")
    return text.upper()


def default_alias(prefix: str, is_taken: Callable[[str], bool]) -> str:
    """The first free one of PREFIX, PREFIX_AQUA … PREFIX_YELLOW, PREFIX_2, PREFIX_3 …"""
    named = (prefix, *(f"{prefix}_{colour}" for colour in COLOURS))
    for alias in named:
        if not is_taken(alias):
            return alias
    return next(alias for n in count(2) if not is_taken(alias := f"{prefix}_{n}"))


def config_var_name(alias: str, prefix: str, manifest_var: str) -> str:
    """EMBEDDING_URL for ("EMBEDDING", "INFERENCE", "INFERENCE_URL")."""
    return f"{alias}_{manifest_var.removeprefix(prefix + '_')}"
