"""The regions that an app can be in, and what the Partner API calls them."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass

from addon.regions import PARTNER_NAMES


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    name: str
    description: str
    country: str
    locale: str

    @property
    def id(self) -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_URL, f"annex:region:{self.name}")

    @property
    def partner_name(self) -> str:
        """As a provision request carries it, e.g. amazon-web-services::us-east-1."""
        return PARTNER_NAMES[self.name]

    @property
    def substrate_region(self) -> str:
        return self.partner_name.partition("::")[2]


REGIONS = {
    "us": Region(
        name="us",
        description="United States",
        country="United States",
        locale="Virginia",
    ),
    "eu": Region(
        name="eu",
        description="Europe",
        country="Ireland",
        locale="Dublin",
    ),
}


ANY_REGION = "*"


class RegionNotOffered(Exception):
    """The service is not offered where the app is."""


def require_region(region: str, service_name: str, offered: Collection[str]) -> None:
    """`offered` is what the manifest lists. Raises RegionNotOffered."""
    if region not in offered and ANY_REGION not in offered:
        raise RegionNotOffered(
            f"{service_name} is not offered in the region {region}, but in: "
            f"{', '.join(sorted(offered))}"
        )
