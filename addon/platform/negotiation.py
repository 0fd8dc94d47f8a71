"""Which answers a client may ask for: version 3, with whatever word follows it, in JSON.

Heroku insists on `application/vnd.heroku+json; version=3`. Here plain JSON and `*/*` are taken too,
so that curl needs no header; another version is refused, for its client expects something else.
"""

import re
from collections.abc import Iterable

from rest_framework.exceptions import NotAcceptable
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from addon.json_api import AlwaysJson

VERSIONED = "application/vnd.heroku+json"
PLAIN = frozenset({"application/json", "application/*", "*/*", ""})

# The CLI sends 3, 3.sdk, 3.webhooks and more of them.
_VERSION = re.compile(r'version\s*=\s*"?3(\.[\w-]+)?"?', re.ASCII)


class Version3(AlwaysJson):
    """Raises NotAcceptable when nothing that the client accepts can be answered."""

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        if not any(map(_is_taken, request.headers.get("Accept", "").split(","))):
            raise NotAcceptable(
                f"Accept must be {VERSIONED}; version=3, or a word after it as in version=3.sdk, "
                "or application/json"
            )
        return super().select_renderer(request, renderers, format_suffix)


def _is_taken(accepted: str) -> bool:
    media_type, *parameters = (part.strip().lower() for part in accepted.split(";"))
    if media_type != VERSIONED:
        return media_type in PLAIN
    versions = (parameter for parameter in parameters if parameter.startswith("version"))
    return all(_VERSION.fullmatch(version) for version in versions)
