"""Whether models can be asked for now: installed here, and computed by how many workers."""

from dataclasses import dataclass

from redis.asyncio import Redis

from inference import presence
from inference.catalogue import Model, queue_name


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelState:
    """A model in some pools of workers. `tokens_per_s` is of all of them together."""

    model: Model
    is_installed: bool
    workers: int
    tokens_per_s: float

    @property
    def is_ready(self) -> bool:
        """Whether it answers: an upstream's needs no workers of ours."""
        return self.is_installed and (self.workers > 0 or self.model.upstream is not None)


async def find_state(redis: Redis, model: Model, *pools: str) -> ModelState:
    """The model in all the pools together. Raises RedisError."""
    workers = {
        worker.id: worker  # one may work for several pools
        for pool in pools
        for worker in await presence.list_workers(redis, queue_name(model.id, pool))
    }
    accepting = [worker.report for worker in workers.values() if worker.is_accepting]
    return ModelState(
        model=model,
        is_installed=model.path is not None,
        workers=len(accepting),
        tokens_per_s=sum(report.tokens_per_s for report in accepting),
    )
