"""A served Annex, as tests/inference has it, to be broken."""

from tests.inference.conftest import application, attach, client, redis, start_worker

__all__ = ["application", "attach", "client", "redis", "start_worker"]
