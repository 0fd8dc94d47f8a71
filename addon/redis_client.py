"""This process's connections to Redis, for code that waits for its answers."""

from functools import cache

from django.conf import settings
from redis import Redis


@cache
def redis_client() -> Redis:
    return Redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=5)
