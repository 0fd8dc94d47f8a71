"""The ASGI application that web processes serve: inference routes first, Django for the rest."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django_application = get_asgi_application()

# Django must be set up before anything below is imported.
from config.bounded_bodies import BoundedBodies  # noqa: E402
from inference.asgi import InferenceApplication  # noqa: E402

application = InferenceApplication(
    otherwise=BoundedBodies(django_application, max_bytes=5_000_000),  # type: ignore[arg-type]
)
