"""Dispatch: requests of this web process to the workers, and their vectors back.

A request is cut into parts, which wait in fair order (lanes.py) and travel in Celery tasks: parts
that wait at the same moment share one, with no delay at rest. Replies do not go through Celery's
result backend: a worker pushes them to a list of this process, which one reader waits on.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis
from redis.exceptions import RedisError

from billing.redis_connection import RedisConnection
from inference import presence, wire
from inference.catalogue import Model, queue_name
from inference.lanes import Lane, Piece
from inference.tokenization import TokenBatch

logger = logging.getLogger(__name__)

TICK_S = 0.5
# How long what is known of the workers is good for; ticks renew it for queues in use.
KNOWN_S = 2.0
IN_USE_S = 30.0
# How long requests may gather while others are in flight; at rest they leave at once.
GATHER_S = 0.003
PUBLISH_TIMEOUT_S = 5.0
READ_BLOCK_S = 1.0
READ_TIMEOUT_S = 5.0
RETRY_AFTER_S = 5
# So long the broker may give tasks to a worker whose machine has vanished (Celery's BRPOP).
TAKE_BLOCK_S = 1.0
# A worker that dies may have died of a part: no part is sent more often than this.
MAX_ATTEMPTS = 2


class WorkerUnavailable(Exception):
    """No worker answered for the model in time; worth trying again in `retry_after_s`."""

    def __init__(self, model_id: str, reason: str, retry_after_s: int = RETRY_AFTER_S) -> None:
        super().__init__(reason)
        self.model_id = model_id
        self.retry_after_s = retry_after_s


class EncodeFailed(Exception):
    """A worker could not compute this request; `failed` are the indexes of the texts it choked on,
    where it could tell."""

    def __init__(self, failed: tuple[int, ...] = ()) -> None:
        super().__init__(failed)
        self.failed = failed


class _Request:
    """A request between `encode` and its last reply. vectors: (B, D) float32."""

    __slots__ = ("future", "missing", "vectors")

    def __init__(self, pieces: int, texts: int, dimensions: int) -> None:
        self.missing = pieces
        self.vectors = np.empty((texts, dimensions), dtype=np.float32)
        self.future: asyncio.Future[NDArray[np.float32]] = (
            asyncio.get_running_loop().create_future()
        )

    def accept(self, piece: Piece, vectors: bytes) -> None:
        """Fill in one part's vectors. Raises ValueError if they are of another shape."""
        rows = self.vectors[piece.rows]  # (b, D)
        rows[:] = np.frombuffer(vectors, dtype="<f4").reshape(rows.shape)
        self.missing -= 1
        if not self.missing and not self.future.done():
            self.future.set_result(self.vectors)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Journey(NamedTuple):
    lane: Lane
    request: _Request
    piece: Piece


class Dispatcher:
    """One per web process. `start` and `stop` run on the event loop that serves requests."""

    def __init__(self, *, redis: Redis) -> None:
        self._redis = redis
        self._publishing = RedisConnection(redis)
        self._reading = RedisConnection(redis)
        self._reply_to = f"replies:{uuid.uuid4().hex}"
        self._lanes: dict[str, Lane] = {}
        self._under_way: dict[int, _Journey] = {}  # by part, until it is answered
        self._part_ids = count()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def start(self) -> None:
        steps = {"publish": self._publish, "read replies": self._read, "watch": self._watch}
        self._tasks = [
            asyncio.create_task(self._forever(step), name=name) for name, step in steps.items()
        ]

    async def stop(self) -> None:
        # The flag as well: redis-py loses a cancellation that comes while it connects.
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._publishing.close()
        await self._reading.close()

    async def encode(
        self, model: Model, batch: TokenBatch, *, pool: str, flow_id: str, deadline_at: float
    ) -> NDArray[np.float32]:
        """Vectors (B, D) float32 of the batch's B texts, computed by the workers of `pool`.

        `flow_id` is whom it is fair to; `deadline_at` is in unix seconds. Raises WorkerUnavailable
        when no worker is there or none answers by then, Overloaded or TooMuchWaiting when none
        would, EncodeFailed when one could not compute it.
        """
        lane = await self._open_lane(model.id, pool)
        seconds_left = deadline_at - time.time()
        now = time.monotonic()
        lane.admit(flow_id, batch.token_count, seconds_left=seconds_left, now=now)
        pieces = lane.split(batch, ids=self._part_ids, flow_id=flow_id, deadline_at=deadline_at)
        request = _Request(len(pieces), len(batch.lengths), model.dimensions)
        for piece in pieces:
            self._under_way[piece.part.id] = _Journey(lane, request, piece)
            lane.push(piece, now=now)
        self._wake.set()
        try:
            async with asyncio.timeout(max(0.0, seconds_left)):
                return await request.future
        except TimeoutError:
            raise WorkerUnavailable(model.id, "no worker answered in time") from None
        finally:
            # What waits frees its place at once; what is in flight, when its answer comes.
            lane.withdraw(pieces)
            for piece in pieces:
                self._under_way.pop(piece.part.id, None)

    async def _open_lane(self, model_id: str, pool: str) -> Lane:
        """The lane to the workers of a model and pool, of which there is at least one."""
        queue = queue_name(model_id, pool)
        lane = self._lanes.get(queue)
        if lane is None:
            lane = self._lanes[queue] = Lane(queue, model_id)
        now = lane.used_at = time.monotonic()
        if now - lane.refreshed_at > KNOWN_S or not lane.accepting:
            try:
                await self._refresh(lane)
            except RedisError as error:
                raise WorkerUnavailable(model_id, "the queue cannot be reached") from error
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError  # redis-py loses one that comes while it connects
        if not lane.accepting:
            raise WorkerUnavailable(model_id, "no worker is running")
        return lane

    async def _refresh(self, lane: Lane) -> None:
        """Learn which workers there are. What one that has lapsed may have held is sent again."""
        workers = await presence.list_workers(self._redis, lane.queue)
        known_lapsed = {worker.id for worker in lane.workers if worker.has_lapsed}
        lane.workers = workers
        lane.refreshed_at = time.monotonic()
        lapsed = {worker.id for worker in workers if worker.has_lapsed} - known_lapsed
        if lapsed:
            self._send_again_what_was_held(lane, lapsed)

    def _send_again_what_was_held(self, lane: Lane, lapsed: set[str]) -> None:
        """Which parts they held is not known, but that they had died a while before they lapsed.
        Those that another holds are computed twice, and the second answer is dropped."""
        took_last_at = time.monotonic() - (presence.LAPSE_S - presence.HEARTBEAT_S - TAKE_BLOCK_S)
        held = [piece.part.id for piece in lane.in_flight.values() if piece.sent_at <= took_last_at]
        if held:
            names = ", ".join(sorted(lapsed))
            logger.warning("lost %s of %s; sending %d parts again", names, lane.queue, len(held))
        for part_id in held:
            lane.land(part_id)
            if part_id in self._under_way:
                self._send_again(self._under_way[part_id])

    def _send_again(self, journey: _Journey) -> None:
        """Let a piece wait once more, unless it may be what its workers died of."""
        if journey.piece.attempts >= MAX_ATTEMPTS:
            reason = "the workers that had it died"
            journey.request.fail(WorkerUnavailable(journey.lane.model_id, reason))
        else:
            journey.lane.push(journey.piece, now=time.monotonic())
            self._wake.set()

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        """Nothing may end these loops: every request of this process waits for them. Those whose
        messages are lost end at their deadlines."""
        while not self._stopping:
            try:
                await step()
            except Exception:
                logger.exception("dispatch stumbled; trying again")
                await asyncio.sleep(TICK_S)

    async def _publish(self) -> None:
        await self._wake.wait()
        # While one publish is under way, requests gather; they leave together in the next. Where
        # workers are at work anyway, a moment more lets those gather that came with one another.
        waiting = [lane for lane in self._lanes.values() if lane.tokens_waiting]
        if waiting and all(lane.may_gather for lane in waiting):
            await asyncio.sleep(GATHER_S)
        self._wake.clear()
        now = time.monotonic()
        tasks = [(lane, task) for lane in self._lanes.values() for task in lane.next_tasks(now=now)]
        if tasks:
            await self._send(tasks)

    async def _send(self, tasks: list[tuple[Lane, list[Piece]]]) -> None:
        outcomes: list[object]
        commands = [("LPUSH", lane.queue, self._message(lane, pieces)) for lane, pieces in tasks]
        try:
            outcomes = await self._publishing.call(*commands, timeout_s=PUBLISH_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - whatever it is, no request shall wait in vain
            outcomes = [error] * len(tasks)
        for (lane, pieces), outcome in zip(tasks, outcomes, strict=True):
            if isinstance(outcome, Exception):
                logger.error("could not publish to %s: %r", lane.queue, outcome)
                self._fail(lane, pieces, outcome)

    def _message(self, lane: Lane, pieces: list[Piece]) -> bytes:
        parts = [piece.part for piece in pieces]
        task = wire.EncodeTask(model_id=lane.model_id, reply_to=self._reply_to, parts=parts)
        return wire.celery_message(task, queue=lane.queue)

    def _fail(self, lane: Lane, pieces: Iterable[Piece], cause: Exception) -> None:
        for piece in pieces:
            lane.land(piece.part.id)
            if piece.part.id in self._under_way:
                refusal = WorkerUnavailable(lane.model_id, "the queue cannot be reached")
                refusal.__cause__ = cause
                self._under_way[piece.part.id].request.fail(refusal)
        self._wake.set()

    async def _read(self) -> None:
        (popped,) = await self._reading.call(
            ("BLPOP", self._reply_to, READ_BLOCK_S), timeout_s=READ_BLOCK_S + READ_TIMEOUT_S
        )
        if isinstance(popped, RedisError):
            raise popped
        if popped is not None:
            self._deliver(popped[1])

    def _deliver(self, message: bytes) -> None:
        try:
            replies = wire.decode_replies(message)
        except ValueError:
            logger.exception("dropped a message that holds no replies")
            return
        for reply in replies:
            self._deliver_one(reply)
        self._wake.set()

    def _deliver_one(self, reply: wire.Reply) -> None:
        journey = self._under_way.get(reply.part_id)
        if journey is None:
            # Its client is gone, or it is late or repeated: it leaves its place in the window.
            for lane in self._lanes.values():
                landed = lane.land(reply.part_id)
                if landed is not None and reply.outcome == "computed":
                    lane.count_delivered(landed)
            logger.info("dropped a reply that nobody waits for, to part %d", reply.part_id)
        elif reply.outcome == "handed back":
            if journey.lane.land(reply.part_id):
                journey.piece.attempts -= 1
                self._send_again(journey)
        else:
            self._conclude(journey, reply)

    def _conclude(self, journey: _Journey, reply: wire.Reply) -> None:
        lane, request, piece = journey
        del self._under_way[reply.part_id]
        lane.land(reply.part_id)
        lane.withdraw([piece])  # if it was to be sent again
        if reply.outcome == "failed":
            request.fail(EncodeFailed(tuple(piece.rows.start + index for index in reply.failed)))
            return
        try:
            request.accept(piece, reply.vectors)
        except ValueError:
            logger.exception("a worker of %s answered in another shape", lane.queue)
            request.fail(EncodeFailed())
        else:
            lane.count_delivered(piece)

    async def _watch(self) -> None:
        await asyncio.sleep(TICK_S)
        now = time.monotonic()
        for lane in list(self._lanes.values()):
            lane.measure(now)
            lane.drop_expired(time.time())
            if now - lane.used_at < IN_USE_S or lane.in_flight or lane.tokens_waiting:
                await self._refresh(lane)
            else:
                del self._lanes[lane.queue]
        self._wake.set()
