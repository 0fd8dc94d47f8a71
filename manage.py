#!/usr/bin/env python3
"""Django's command line, with Annex's settings, in Annex's virtual environment."""

import os
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parent / ".venv"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        from django.core.management import execute_from_command_line
    except ModuleNotFoundError:
        sys.exit("Annex is not installed: run `make up` once.")
    from django.db import OperationalError
    from environs import EnvError

    try:
        execute_from_command_line(sys.argv)
    except EnvError as error:
        sys.exit(f"{error}. `make up` sets what is needed; see docs/configuration.md.")
    except OperationalError as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        sys.exit(
            f"The database cannot be reached ({reason}). Is Annex running? `make up` starts it."
        )


if __name__ == "__main__":
    # `./manage.py` works without activating anything; on a dyno there is no .venv.
    if sys.prefix == sys.base_prefix and (VENV / "bin" / "python").exists():
        os.execv(VENV / "bin" / "python", [str(VENV / "bin" / "python"), *sys.argv])  # noqa: S606
    main()
