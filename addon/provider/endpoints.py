"""Where apps reach each region: what config vars say, and where a misdirected request belongs."""

from django.conf import settings


def endpoint_of(region: str) -> str:
    """The base URL of the region's web processes."""
    url: str = settings.INFERENCE_URL_EU if region == "eu" else settings.INFERENCE_URL
    return url
