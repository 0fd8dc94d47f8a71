"""The manifest of the add-on that this deployment provides."""

from django.conf import settings

from addon.manifest import RESOURCES_PATH, Manifest

CONFIG_VARS_PREFIX = "INFERENCE"


def own_manifest() -> Manifest:
    return Manifest(
        id=settings.ADDON_SERVICE_NAME,
        name="Managed Inference",
        password=settings.PROVIDER_PASSWORD,
        regions=("us", "eu"),
        requires=("attachable", "many_per_app"),
        config_vars_prefix=CONFIG_VARS_PREFIX,
        config_vars=("INFERENCE_URL", "INFERENCE_KEY", "INFERENCE_MODEL_ID"),
        base_url=settings.PROVIDER_URL + RESOURCES_PATH,
        attachment_credentials=True,
    )
