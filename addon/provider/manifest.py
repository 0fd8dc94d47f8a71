"""The manifest of the add-on that this deployment provides."""

from django.conf import settings

from addon.manifest import RESOURCES_PATH, Manifest, parse_manifest

CONFIG_VARS_PREFIX = "INFERENCE"
SSO_PATH = "/heroku/sso"


def own_manifest() -> Manifest:
    """Parsed like anybody's, so that a wrong setting is refused by name. Raises InvalidManifest."""
    production = {"base_url": settings.PROVIDER_URL + RESOURCES_PATH}
    if settings.SSO_SALT:  # people's browsers go there, so it is not PROVIDER_URL
        production["sso_url"] = settings.PUBLIC_URL + SSO_PATH
    return parse_manifest(
        {
            "id": settings.ADDON_SERVICE_NAME,
            "name": "Managed Inference",
            "api": {
                "version": "3",
                "password": settings.PROVIDER_PASSWORD,
                "regions": settings.REGIONS,
                "requires": ["attachable", "many_per_app", "log_input"],
                "config_vars_prefix": CONFIG_VARS_PREFIX,
                "config_vars": ["INFERENCE_URL", "INFERENCE_KEY", "INFERENCE_MODEL_ID"],
                "sso_salt": settings.SSO_SALT or None,
                "production": production,
                "annex": {"attachment_credentials": True},
            },
        }
    )
