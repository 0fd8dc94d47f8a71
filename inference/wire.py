"""The wire format between web processes and workers, in both directions: msgpack and raw arrays.

Token ids travel as int32 and vectors as float32, little-endian bytes; text never travels.
"""

import base64
import os
import socket
import uuid
from typing import Literal

import msgspec
from kombu.serialization import register

ENCODE_TASK = "inference.encode"
SERIALIZER = "annex-msgpack"
CONTENT_TYPE = "application/x-annex-msgpack"

Outcome = Literal["computed", "failed", "handed back"]


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Some texts of one request: what is scheduled, computed and answered as one.

    ids: (T,) int32 bytes; lengths: (B,) int32 bytes, as in TokenBatch. request_tokens: of all the
    request's parts, by which its place in a queue is found.
    """

    id: int  # unique in the web process that sends it
    flow_id: str  # the attachment, between which workers are fair
    deadline_at: float  # unix seconds
    request_tokens: int
    ids: bytes
    lengths: bytes

    @property
    def tokens(self) -> int:
        return len(self.ids) // 4


class EncodeTask(msgspec.Struct, frozen=True, array_like=True):
    """Parts for one model that wait in one web process, whose reply list is `reply_to`."""

    model_id: str
    reply_to: str
    parts: list[Part]


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """One part's answer. vectors: (B, D) float32 bytes if computed. failed: the indexes, among the
    part's texts, of those that cannot be computed. A part is handed back by a worker that stops."""

    part_id: int
    outcome: Outcome
    vectors: bytes = b""
    failed: tuple[int, ...] = ()


encode = msgspec.msgpack.Encoder().encode
decode_task = msgspec.msgpack.Decoder(EncodeTask).decode
# A message is the answers of one batch to one web process.
decode_replies = msgspec.msgpack.Decoder(list[Reply]).decode

# Celery's message around the task, so that the payload inside stays bytes.
register(  # type: ignore[no-untyped-call]
    SERIALIZER,
    msgspec.msgpack.encode,
    msgspec.msgpack.decode,
    content_type=CONTENT_TYPE,
    content_encoding="binary",
)


def celery_message(task: EncodeTask, *, queue: str) -> bytes:
    """The message that `send_task(ENCODE_TASK, args=[encode(task)], …)` puts into the list `queue`:
    Celery's task protocol 2 in the envelope of kombu's Redis transport.

    Made here because the way through Celery and kombu takes ten times the processor time. Sources:
    celery/app/amqp.py (as_task_v2), kombu/transport/virtual/base.py.
    """
    id_ = str(uuid.uuid4())
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = encode(((encode(task),), {}, embedded))
    return msgspec.json.encode(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "binary",
            "content-type": CONTENT_TYPE,
            "headers": {**_HEADERS, "id": id_, "root_id": id_},
            "properties": {
                "correlation_id": id_,
                "reply_to": "",
                "argsrepr": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": id_,
            },
        }
    )


_HEADERS: dict[str, object] = {
    "lang": "py",
    "task": ENCODE_TASK,
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": (None, None),
    "parent_id": None,
    "argsrepr": "",
    "kwargsrepr": "{}",
    "origin": f"{os.getpid()}@{socket.gethostname()}",
    "ignore_result": True,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
