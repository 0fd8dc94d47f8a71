"""What every config of a provider must be like, however it comes."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from addon.conformance.checks import Failed
from addon.conformance.groups.manifest import LOCAL_HOSTS
from addon.conformance.run import Run


def read_config(value: object) -> Mapping[str, object]:
    """Raises Failed."""
    if not isinstance(value, Mapping):
        raise Failed(f"config is {kind_of(value)}; expected an object of names and strings")
    return value


def require_declared(run: Run, config: Mapping[str, object]) -> None:
    undeclared = sorted(set(config) - set(run.manifest.config_vars))
    if undeclared:
        raise Failed(f"api.config_vars lacks {', '.join(undeclared)[:200]}")


def require_strings(config: Mapping[str, object]) -> None:
    for name, value in config.items():
        if not isinstance(value, str):
            raise Failed(f"the value of {name} is {kind_of(value)}; expected a string")


def require_urls(run: Run, config: Mapping[str, object]) -> None:
    """Of names that end with _URL."""
    is_local = urlsplit(run.manifest.base_url).hostname in LOCAL_HOSTS
    for name, value in config.items():
        if not name.endswith("_URL") or not isinstance(value, str):
            continue
        host = _host(value)
        if host is None:
            raise Failed(f"the value of {name} is no URL with a scheme and a host")
        if host in LOCAL_HOSTS and not is_local:
            raise Failed(f"the value of {name} is a URL of {host}, which no app can reach")


def _host(text: str) -> str | None:
    try:
        parts = urlsplit(text)
        return parts.hostname if parts.scheme else None
    except ValueError:
        return None


def kind_of(value: object) -> str:
    """For people, and without the value: it may be a secret."""
    match value:
        case None:
            return "absent or null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string" if value else "an empty string"
        case list():
            return "a list"
        case _:
            return "an object"
