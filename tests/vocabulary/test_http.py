"""One HTTP exchange without a transport: headers, responses, and clients that disconnect meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import Server
from openai_compat.http import ClientDisconnected, HttpRequest, ResponseBody, ResponseStart, encode_headers
from tests.support import strategies
from tests.support.exchanges import Recorder, answer, chat, one, request
from tests.support.stepping import eventually

anyio_test = pytest.mark.anyio


@given(st.lists(st.tuples(st.sampled_from(["X-One", "x-two"]), strategies.texts)))
def test_no_value_can_end_a_header_line_or_fail_to_be_sent(headers: list[tuple[str, str]]) -> None:
    for (name, value), (sent_name, sent) in zip(headers, encode_headers(headers), strict=True):
        assert sent_name == name.lower().encode()
        assert not set(sent) & set(b"\r\n\0")
        assert len(sent) == len(value)


def test_headers_are_read_as_they_came() -> None:
    headers = [(b"accept", b"a"), (b"x", b"caf\xe9"), (b"accept", b"b")]
    asked = HttpRequest("GET", "/", "", headers, one(b""))
    assert asked.header(b"accept") == "a"
    assert asked.header_values(b"accept") == ["a", "b"]
    assert (asked.header(b"x"), asked.header(b"none"), asked.header_values(b"none")) == ("café", None, [])


async def say(prompt: str) -> str:
    return "hi"


@anyio_test
async def test_every_answer_has_an_id_a_time_and_may_not_be_cached() -> None:
    server = Server(say)
    asked = [chat(), chat(stream=True), chat(n=0), request("/nowhere"), request("/v1/models", method="GET")]
    seen = set()
    for each in asked:
        sent = await answer(server, each)
        assert sent.headers["x-request-id"].startswith("req_")
        assert int(sent.headers["openai-processing-ms"]) >= 0
        assert "no-store" in sent.headers["cache-control"]
        seen.add(sent.headers["x-request-id"])
    assert len(seen) == len(asked)


@anyio_test
async def test_a_stream_may_not_be_buffered_on_its_way() -> None:
    sent = await answer(Server(say), chat(stream=True))
    assert sent.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert sent.headers["x-accel-buffering"] == "no"
    assert "content-length" not in sent.headers


@anyio_test
async def test_head_is_answered_as_get_without_a_body() -> None:
    got = await answer(Server(say), request("/v1/models", method="GET"))
    head = await answer(Server(say), request("/v1/models", method="HEAD"))
    assert (head.status, head.data) == (200, b"")
    assert head.headers["content-length"] == str(len(got.data))


class GoneAfter:
    """A `send` whose client has disconnected after `messages` messages."""

    def __init__(self, messages: int) -> None:
        self.left = messages

    async def __call__(self, message: ResponseStart | ResponseBody) -> None:
        if not self.left:
            raise ClientDisconnected
        self.left -= 1


@anyio_test
@pytest.mark.parametrize("messages", [0, 1, 2])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_a_client_that_goes_away_while_it_is_answered_stops_the_agent(
    stream: bool, messages: int, caplog: pytest.LogCaptureFixture
) -> None:
    closed = []

    async def talk(prompt: str) -> AsyncIterator[str]:
        try:
            for _ in range(5):
                yield "more "
                await anyio.sleep(0.001)
        finally:
            closed.append(True)

    server = Server(talk)
    if stream or messages < 2:
        with pytest.raises(ClientDisconnected), anyio.fail_after(20):
            await server.handle(chat(stream=stream), GoneAfter(messages))
    else:
        await server.handle(chat(stream=stream), GoneAfter(messages))
    await eventually(lambda: not server.services.live.slots.used)
    assert closed == [True]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@anyio_test
@pytest.mark.parametrize("pieces", [0, 1, 3])
async def test_a_client_that_goes_away_while_it_sends_its_request_starts_no_agent(pieces: int) -> None:
    began = []

    async def leaving() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield b'{"model": '
        raise ClientDisconnected

    async def talk(prompt: str) -> str:
        began.append(prompt)
        return "hi"

    server, sent = Server(talk), Recorder()
    asked = HttpRequest("POST", "/v1/chat/completions", "", [(b"host", b"localhost")], leaving())
    with pytest.raises(ClientDisconnected):
        await server.handle(asked, sent)
    assert (began, sent.messages, server.services.live.slots.used) == ([], [], 0)
