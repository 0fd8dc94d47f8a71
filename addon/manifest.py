"""addon-manifest.json: what a provider tells a platform about itself.

`api.annex` is an extension of ours. `attachment_credentials`: the provider issues credentials per
attachment (PUT and DELETE of /heroku/resources/:uuid/attachments/:uuid); without it every
attachment of a resource gets the resource's config, as at Heroku. `plans`: what it sells, which
Heroku's manifest does not say.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

RESOURCES_PATH = "/heroku/resources"
REGIONS = frozenset(
    {"us", "eu", "dublin", "frankfurt", "montreal", "mumbai", "oregon", "singapore"}
)
REGIONS |= {"sydney", "tokyo", "virginia", "*"}
FEATURES = frozenset({"attachable", "many_per_app", "log_input", "syslog_drain"})

TEXT_MAX_CHARACTERS = 200
DESCRIPTION_MAX_CHARACTERS = 2_000
URL_MAX_CHARACTERS = 480  # before RESOURCES_PATH
CONFIG_VARS_MAX = 100

_ID = re.compile(r"(?=.{1,100}\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PREFIX = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
# At an app an attachment's name, of up to 128 characters too, takes the place of the prefix.
_CONFIG_VAR = re.compile(r"[A-Z][A-Z0-9_]{1,127}")
_PLAN_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
PLANS_MAX = 100
PRICE_MAX_CENTS = 100_000_000
PLAN_KEYS = ("slug", "name", "description", "price_cents", "default", "async")


class InvalidManifest(Exception):
    def __init__(self, field_name: str, allowed: str) -> None:
        super().__init__(f"{field_name} must be {allowed}")
        self.field_name = field_name


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestPlan:
    """A flat price by the month. `is_async`: the provider answers 202 and calls back."""

    slug: str
    name: str
    description: str = ""
    price_cents: int
    is_default: bool = False
    is_async: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A valid manifest. `base_url` ends with /heroku/resources."""

    id: str
    name: str
    password: str = field(repr=False)
    regions: tuple[str, ...]
    requires: tuple[str, ...]
    config_vars_prefix: str
    config_vars: tuple[str, ...]
    base_url: str
    sso_salt: str | None = field(default=None, repr=False)
    sso_url: str | None = None
    attachment_credentials: bool = False
    plans: tuple[ManifestPlan, ...] = ()


def parse_manifest(document: object) -> Manifest:
    """Raises InvalidManifest, which names the first wrong field and what it may be."""
    top = _object(document, "the manifest")
    api = _object(top.get("api"), "api")
    production = _object(api.get("production"), "api.production")
    annex = _object(api.get("annex", {}), "api.annex")
    if api.get("version") != "3":
        raise InvalidManifest("api.version", '"3"')
    slug = _matching(
        top.get("id"), "id", _ID, "up to 100 lower-case letters and digits, joined by dashes"
    )
    prefix = _matching(
        api.get("config_vars_prefix", slug.upper().replace("-", "_")),
        "api.config_vars_prefix",
        _PREFIX,
        "up to 100 capitals, digits and underscores, starting with a letter",
    )
    return Manifest(
        id=slug,
        name=_text(top.get("name"), "name"),
        password=_text(api.get("password"), "api.password"),
        regions=_regions(api.get("regions")),
        requires=_choices(api.get("requires", []), "api.requires", FEATURES),
        config_vars_prefix=prefix,
        config_vars=_config_vars(api.get("config_vars"), prefix),
        base_url=_base_url(production.get("base_url")),
        sso_salt=_optional_text(api.get("sso_salt"), "api.sso_salt"),
        sso_url=_optional_url(production.get("sso_url"), "api.production.sso_url"),
        attachment_credentials=_flag(annex, "attachment_credentials", "api.annex"),
        plans=_plans(annex.get("plans", [])),
    )


def _object(value: object, field_name: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise InvalidManifest(field_name, "an object")
    return value


def _text(value: object, field_name: str, max_characters: int = TEXT_MAX_CHARACTERS) -> str:
    is_text = isinstance(value, str) and value.isprintable() and value.strip() != ""
    if not isinstance(value, str) or not is_text or len(value) > max_characters:
        allowed = f"a string of 1 to {max_characters} characters that can be printed"
        raise InvalidManifest(field_name, allowed)
    return value


def _optional_text(value: object, field_name: str) -> str | None:
    return None if value is None else _text(value, field_name)


def _description(value: object, field_name: str) -> str:
    return "" if value in (None, "") else _text(value, field_name, DESCRIPTION_MAX_CHARACTERS)


def _matching(value: object, field_name: str, pattern: re.Pattern[str], allowed: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidManifest(field_name, allowed)
    return value


def _choices(value: object, field_name: str, allowed: frozenset[str]) -> tuple[str, ...]:
    known = sorted(allowed)  # a list: what a manifest holds need not be hashable
    if not isinstance(value, list) or not all(choice in known for choice in value):
        raise InvalidManifest(field_name, f"a list of some of: {', '.join(known)}")
    return tuple(value)


def _regions(value: object) -> tuple[str, ...]:
    regions = _choices(value, "api.regions", REGIONS)
    if not regions:
        raise InvalidManifest("api.regions", "a list of one or more regions")
    return regions


def _config_vars(value: object, prefix: str) -> tuple[str, ...]:
    allowed = (
        f"a list of 1 to {CONFIG_VARS_MAX} names in capitals that start with {prefix}_, of up to "
        "128 characters"
    )
    if not isinstance(value, list) or not 0 < len(value) <= CONFIG_VARS_MAX:
        raise InvalidManifest("api.config_vars", allowed)
    for name in value:
        _matching(name, "api.config_vars", _CONFIG_VAR, allowed)
        if not name.startswith(f"{prefix}_") or name == f"{prefix}_":
            raise InvalidManifest("api.config_vars", allowed)
    return tuple(dict.fromkeys(value))


def _url(value: object, field_name: str) -> str:
    text = _text(value, field_name, URL_MAX_CHARACTERS)
    try:
        parts = urlsplit(text)
        # http is for a provider on the same machine; the operator decides who is registered.
        is_url = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        is_url = is_url and " " not in text
    except ValueError:  # of an address or a port
        is_url = False
    if not is_url:
        raise InvalidManifest(field_name, "an http:// or https:// URL")
    return text.rstrip("/")


def _optional_url(value: object, field_name: str) -> str | None:
    return None if value is None else _url(value, field_name)


def _base_url(value: object) -> str:
    url = _url(value, "api.production.base_url")
    return url if url.endswith(RESOURCES_PATH) else url + RESOURCES_PATH


def _flag(values: Mapping[str, object], name: str, place: str) -> bool:
    value = values.get(name, False)
    if not isinstance(value, bool):
        raise InvalidManifest(f"{place}.{name}", "true or false")
    return value


def _plans(value: object) -> tuple[ManifestPlan, ...]:
    if not isinstance(value, list) or len(value) > PLANS_MAX:
        raise InvalidManifest("api.annex.plans", f"a list of at most {PLANS_MAX} plans")
    plans = tuple(_plan(plan, f"api.annex.plans[{index}]") for index, plan in enumerate(value))
    if len({plan.slug for plan in plans}) != len(plans):
        raise InvalidManifest("api.annex.plans", "a list of plans whose slugs differ")
    if plans and sum(plan.is_default for plan in plans) != 1:
        raise InvalidManifest("api.annex.plans", "a list of plans of which one is the default")
    return plans


def _plan(value: object, place: str) -> ManifestPlan:
    plan = _object(value, place)
    for key in plan:
        if key not in PLAN_KEYS:  # the extension is ours: a key that it lacks is a misspelt one
            raise InvalidManifest(f"{place}.{key}", f"absent: a plan has {', '.join(PLAN_KEYS)}")
    allowed = "1 to 100 lower-case letters, digits, dots, dashes and underscores"
    slug = _matching(plan.get("slug"), f"{place}.slug", _PLAN_SLUG, allowed)
    return ManifestPlan(
        slug=slug,
        name=_text(plan.get("name", slug.capitalize()), f"{place}.name"),
        description=_description(plan.get("description"), f"{place}.description"),
        price_cents=_price_cents(plan.get("price_cents"), f"{place}.price_cents"),
        is_default=_flag(plan, "default", place),
        is_async=_flag(plan, "async", place),
    )


def _price_cents(value: object, field_name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= PRICE_MAX_CENTS:
        raise InvalidManifest(field_name, f"an integer from 0 to {PRICE_MAX_CENTS}: cents a month")
    return value
