"""The wire format between web processes and workers, in both directions: msgpack and raw arrays.

Token ids travel as int32 and vectors as float32, little-endian bytes; text never travels.
"""

import msgspec
from kombu.serialization import register

ENCODE_TASK = "inference.encode"
SERIALIZER = "annex-msgpack"
CONTENT_TYPE = "application/x-annex-msgpack"


class EncodeRequest(msgspec.Struct, frozen=True, array_like=True):
    """One request's texts. ids: (T,) int32 bytes; lengths: (B,) int32 bytes, as in TokenBatch."""

    id: str
    deadline_at: float  # unix seconds
    ids: bytes
    lengths: bytes


class EncodeTask(msgspec.Struct, frozen=True, array_like=True):
    """Requests for one model that wait in one web process, whose reply list is `reply_to`."""

    model_id: str
    reply_to: str
    requests: list[EncodeRequest]


class EncodeReply(msgspec.Struct, frozen=True, array_like=True):
    """One request's answer. vectors: (B, D) float32 bytes, or empty with `error` set."""

    id: str
    vectors: bytes
    error: str | None = None


encode = msgspec.msgpack.Encoder().encode
decode_task = msgspec.msgpack.Decoder(EncodeTask).decode
decode_reply = msgspec.msgpack.Decoder(EncodeReply).decode

# Celery's message around the task, so that the payload inside stays bytes.
register(  # type: ignore[no-untyped-call]
    SERIALIZER,
    msgspec.msgpack.encode,
    msgspec.msgpack.decode,
    content_type=CONTENT_TYPE,
    content_encoding="binary",
)
