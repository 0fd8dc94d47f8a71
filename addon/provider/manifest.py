"""The manifest of the add-on that this deployment provides."""

from collections.abc import Mapping

from django.conf import settings

from addon.manifest import RESOURCES_PATH, Manifest, parse_manifest

CONFIG_VARS_PREFIX = "INFERENCE"
SSO_PATH = "/heroku/sso"
# What stands for a secret where it is not to be shown: the setting that holds it.
SHOWN_INSTEAD = {"password": "PROVIDER_PASSWORD", "sso_salt": "SSO_SALT"}


def own_manifest() -> Manifest:
    """Parsed like anybody's, so that a wrong setting is refused by name. Raises InvalidManifest."""
    return parse_manifest(own_document())


def own_document() -> dict[str, object]:
    """What addon-manifest.json says, with its secrets."""
    api: dict[str, object] = {
        "version": "3",
        "password": settings.PROVIDER_PASSWORD,
        "regions": settings.REGIONS,
        "requires": ["attachable", "many_per_app", "log_input"],
        "config_vars_prefix": CONFIG_VARS_PREFIX,
        "config_vars": ["INFERENCE_URL", "INFERENCE_KEY", "INFERENCE_MODEL_ID"],
        # People's browsers go to the SSO URL, so it is not below PROVIDER_URL.
        "production": _urls(settings.PROVIDER_URL, settings.PUBLIC_URL),
        "test": _urls(*[f"http://localhost:{settings.PORT}"] * 2),
        "annex": {"attachment_credentials": True},
    }
    if settings.SSO_SALT:
        api["sso_salt"] = settings.SSO_SALT
    return {"id": settings.ADDON_SERVICE_NAME, "name": "Managed Inference", "api": api}


def _urls(provider_url: str, public_url: str) -> dict[str, str]:
    urls = {"base_url": provider_url + RESOURCES_PATH}
    if settings.SSO_SALT:
        urls["sso_url"] = public_url + SSO_PATH
    return urls


def without_secrets(document: Mapping[str, object]) -> dict[str, object]:
    """The manifest as it may be shown: each secret is the name of its setting."""
    api = document["api"]
    assert isinstance(api, Mapping)  # noqa: S101 - own_document() made it
    shown = {name: SHOWN_INSTEAD.get(name, value) for name, value in api.items()}
    return {**document, "api": shown}
