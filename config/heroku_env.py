"""The environment that points the heroku CLI at this Annex."""

import shlex


def heroku_env(url: str, api_key: str) -> dict[str, str]:
    """Variables for the CLI. `url` must be on localhost: the CLI sends its key nowhere else."""
    return {
        "HEROKU_HOST": url,
        "HEROKU_API_KEY": api_key,
        # Without these the CLI sends the key to heroku.com as well, and asks there for updates.
        "HEROKU_PARTICLEBOARD_URL": url,
        "DISABLE_TELEMETRY": "true",
        "HEROKU_SKIP_NEW_VERSION_CHECK": "true",
        "HEROKU_DISABLE_AUTOUPDATE": "true",
    }


def as_exports(environment: dict[str, str]) -> str:
    """One line for a shell to evaluate."""
    pairs = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    return f"export {pairs}"
