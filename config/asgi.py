"""The ASGI application that web processes serve: inference routes first, Django for the rest."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django.setup(set_prefix=False)

# Django must be set up before anything below is imported.
from addon.json_api import BODY_MAX_BYTES  # noqa: E402
from config.bounded_bodies import BoundedBodies  # noqa: E402
from config.django_handler import DjangoHandler  # noqa: E402
from inference.asgi import InferenceApplication  # noqa: E402

application = InferenceApplication(
    otherwise=BoundedBodies(DjangoHandler(), max_bytes=BODY_MAX_BYTES),  # type: ignore[arg-type]
)
