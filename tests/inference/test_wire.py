"""The wire format: what goes to a worker is a task of Celery's, whoever made the message."""

import json
from typing import Any

from redis import Redis

from config.celery import app
from inference import wire

QUEUE = "inference.test.wire"
TASK = wire.EncodeTask(
    model_id="all-minilm-l6-v2",
    reply_to="replies:test",
    parts=[wire.Part(1, "a", 9e9, 2, b"\x01\0\0\0\xff\0\0\0", b"\x02\0\0\0")],
)
# What is another in each message, or in each process that sends one.
DRAWN = {"id", "root_id", "correlation_id", "delivery_tag", "reply_to", "origin"}


def drawn_left_out(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    return {key: drawn_left_out(value) for key, value in message.items() if key not in DRAWN}


def test_the_message_is_what_celery_itself_would_send(redis_client: Redis) -> None:
    app.send_task(
        wire.ENCODE_TASK,
        args=[wire.encode(TASK)],
        queue=QUEUE,
        serializer=wire.SERIALIZER,
        ignore_result=True,
        argsrepr="",
    )
    celerys = json.loads(redis_client.lpop(QUEUE))  # type: ignore[arg-type]
    ours = json.loads(wire.celery_message(TASK, queue=QUEUE))
    assert drawn_left_out(ours) == drawn_left_out(celerys)
    for names in (("headers", "id"), ("headers", "root_id"), ("properties", "delivery_tag")):
        assert type(ours[names[0]][names[1]]) is type(celerys[names[0]][names[1]])
    assert ours["headers"]["id"] == ours["properties"]["correlation_id"]


def test_no_two_messages_have_an_id_in_common() -> None:
    messages = [json.loads(wire.celery_message(TASK, queue=QUEUE)) for _ in range(100)]
    assert len({message["headers"]["id"] for message in messages}) == 100
    assert len({message["properties"]["delivery_tag"] for message in messages}) == 100


def test_kombu_takes_it_from_the_queue_whole(redis_client: Redis) -> None:
    redis_client.lpush(QUEUE, wire.celery_message(TASK, queue=QUEUE))
    with (
        app.connection_for_read() as connection,
        connection.SimpleQueue(QUEUE, accept=[wire.CONTENT_TYPE]) as queue,
    ):
        message = queue.get(timeout=5)
        args, kwargs, _ = message.decode()
        message.ack()
    assert wire.decode_task(args[0]) == TASK
    assert kwargs == {}
