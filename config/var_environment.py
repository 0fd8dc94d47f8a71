"""Owns var/environment: what `make up` generated, for the next start and for a second terminal.

Lines of KEY=value, readable by this user only. Secrets are made once and kept; addresses are
written anew at each start. config.settings reads the file as a fallback, so a variable that is
set in the environment always wins.
"""

import base64
import os
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from errno import EINVAL
from pathlib import Path

FILE_NAME = "environment"


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


SECRETS: Mapping[str, Callable[[], str]] = {
    "SECRET_KEY": lambda: secrets.token_urlsafe(50),
    "ENCRYPTION_KEYS": _fernet_key,
    "PROVIDER_PASSWORD": lambda: secrets.token_urlsafe(32),
    "SSO_SALT": lambda: secrets.token_urlsafe(32),
    "PROVIDER_WEBHOOK_SECRET": lambda: secrets.token_urlsafe(32),
    "INVOICE_SIGNING_KEY": lambda: secrets.token_urlsafe(32),
    "OPERATOR_PASSWORD": lambda: secrets.token_urlsafe(12),
    "ACCOUNT_API_KEY": lambda: f"HRKU-{uuid.uuid4()}",
}


def read(var: Path) -> dict[str, str]:
    """What the file says; empty before the first start. Raises OSError if it says nothing."""
    path = var / FILE_NAME
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise OSError(EINVAL, "it is not text; restore it from a backup", str(path)) from error
    lines = (line for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def keep_secrets(var: Path) -> dict[str, str]:
    """The generated secrets, made and stored if this is the first start."""
    stored = read(var)
    kept = {name: stored.get(name) or make() for name, make in SECRETS.items()}
    if any(stored.get(name) != value for name, value in kept.items()):
        write(var, {**stored, **kept})
    return kept


def write(var: Path, values: Mapping[str, str], *, without: Sequence[str] = ()) -> None:
    """Replace the file at once: a crash or a full disk leaves the old one, never half a file."""
    lines = ["# Written by `make up`. The secrets are kept, the addresses change at each start."]
    lines += [f"{name}={value}" for name, value in values.items() if name not in without]
    unfinished = var / f"{FILE_NAME}.new"
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    with unfinished.open("w") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(var / FILE_NAME)
