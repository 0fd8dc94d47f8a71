"""The regions that resources can be in: the two of Heroku's Common Runtime. Pure.

The Partner API calls a region by its provider of machines, `amazon-web-services::us-east-1`.
"""

PARTNER_NAMES = {
    "us": "amazon-web-services::us-east-1",
    "eu": "amazon-web-services::eu-west-1",
}
REGIONS = tuple(PARTNER_NAMES)

_REGIONS = {partner_name: name for name, partner_name in PARTNER_NAMES.items()}


def find_region(text: str) -> str | None:
    """The region that `text` names, plainly or as the Partner API does; None if it names none."""
    return text if text in PARTNER_NAMES else _REGIONS.get(text)
