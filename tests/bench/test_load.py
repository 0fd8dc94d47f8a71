"""The load generator: every answer is complete, has status 200, and is counted once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from bench.load import Load, LoadFailed, find_end, generate, http_post, run_load

PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"
)
REQUEST = http_post("/v1/embeddings", b"{}", host="annex", key="inf_x")


@asynccontextmanager
async def serving(*pieces: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers each request with the pieces, one after the other."""
    received: list[bytes] = []
    answering: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while request := await reader.read(10_000):
                received.append(request)
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.002)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.create_task(answer(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], received
        await asyncio.gather(*answering)


def load(port: int) -> Load:
    return Load(host="127.0.0.1", port=port, requests=[REQUEST], connections=3, seconds=0.2)


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED])
async def test_each_answer_counts_once_however_it_arrives(answer: bytes) -> None:
    for cut in (len(answer), 10, 50, len(answer) - 1):
        async with serving(answer[:cut], answer[cut:]) as (port, received):
            result = await generate(load(port))
        assert set(received) == {REQUEST}
        assert result.answered == len(received)
        assert result.answered - 3 <= result.requests <= result.answered
        assert len(result.latencies_s) == result.requests
        assert 0 < result.latency_ms(50) <= result.latency_ms(99) < 200


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 503 Unavailable\r\ncontent-length: 4\r\n\r\nbusy", "busy"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "neither"),
    ],
)
async def test_an_answer_that_is_none_ends_the_run(answer: bytes, words: str) -> None:
    async with serving(answer) as (port, _):
        with pytest.raises(LoadFailed, match=words):
            await generate(load(port))


async def test_it_runs_in_a_process_of_its_own() -> None:
    async with serving(PLAIN) as (port, received):
        result = await asyncio.to_thread(run_load, "127.0.0.1", port, [REQUEST], 2, 0.2)
    assert result.answered == len(received) > 0
    async with serving(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n") as (port, _):
        with pytest.raises(LoadFailed, match="401"):
            await asyncio.to_thread(run_load, "127.0.0.1", port, [REQUEST], 2, 0.2)


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED])
def test_the_end_of_an_answer_is_found_only_when_all_of_it_is_there(answer: bytes) -> None:
    assert {find_end(answer[:cut]) for cut in range(len(answer))} == {None}
    assert find_end(answer + b"HTTP/1.1 2") == len(answer)
