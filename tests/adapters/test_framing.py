"""Where requests begin and end: `serve` finds the same requests in the same bytes as h11, another strict parser.

A proxy in front may see more or fewer requests than we do, which lets clients smuggle requests past its rules. So for any
bytes, above all broken ones, the requests that reach the application are the first of those that h11 finds, field by field
and byte by byte. We may refuse more than h11 does, but never find different requests, however the bytes are split.
"""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from typing import Any, TypeAlias

import h11
import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from openai_compat_adapters._serving.http1 import HEAD_BYTES, Http1Protocol
from tests.requirements import requirement

Request: TypeAlias = tuple[bytes, bytes, bytes, tuple[tuple[bytes, bytes], ...], bytes]
"""Method, target, version, fields, body."""


class Memory(asyncio.Transport):
    """The client's end of a connection, without a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.protocol: Any = None
        self._closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self._closing = True

    def is_closing(self) -> bool:
        return self._closing

    def get_protocol(self) -> Any:
        return self.protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def exchange(*pieces: bytes) -> tuple[list[Request], bytes]:
    """Return the requests that reach an application, and the bytes written to the client."""
    heard: list[Request] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
                fields = tuple(scope["headers"])
                heard.append((scope["method"].encode(), target, scope["http_version"].encode(), fields, body))
                headers = [(b"content-length", b"2")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": b"ok"})

    state, loop, transport = ServerState(), asyncio.get_running_loop(), Memory()
    config = uvicorn.Config(application, lifespan="off", log_config=None, ws="none", access_log=False)
    protocol = Http1Protocol(
        header_timeout=60, write_timeout=60, config=config, server_state=state, app_state={}, _loop=loop
    )
    transport.protocol = protocol
    protocol.connection_made(transport)
    for piece in pieces:
        if not transport.is_closing():
            protocol.data_received(piece)
        await quiet()
    protocol.timeout_keep_alive_handler()
    protocol.connection_lost(None)
    await asyncio.gather(*state.tasks)
    return heard, transport.written


async def quiet() -> None:
    """Wait until nothing more happens: a response takes a few steps, and may start another one."""
    for _ in range(20):
        await asyncio.sleep(0)


def heard_by_h11(data: bytes) -> list[Request]:
    connection, heard = h11.Connection(h11.SERVER, HEAD_BYTES), list[Request]()
    connection.receive_data(data)
    body = b""
    try:
        while isinstance(event := connection.next_event(), h11.Request | h11.Data | h11.EndOfMessage):
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                fields = tuple((name, value) for name, value in head.headers)
                heard.append((head.method, head.target, head.http_version, fields, body))
                connection.send(h11.Response(status_code=404, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    break
                connection.start_next_cycle()
    except h11.RemoteProtocolError:
        pass
    return heard


def alike(requests: list[Request]) -> list[Request]:
    """Remove intended differences.

    h11 writes codings in lower case. We drop offers of other protocols, and our own origin from targets.
    """
    found = []
    for method, target, version, fields, body in requests:
        target = re.sub(b"^http://a(?=/)", b"", target)
        kept = [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in fields]
        found.append((method, target, version, tuple(field for field in kept if field[0] != b"upgrade"), body))
    return found


LINES = [
    b"GET / HTTP/1.1",
    b"PUT /%20 HTTP/1.1",
    b"POST /a?b=c HTTP/1.1",
    b"HEAD /%41 HTTP/1.1",
    b"PUT /old HTTP/1.0",
    b"POST http://a/x HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"DELETE //x HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1",
]
FIELDS = [
    b"Content-Length: 5",
    b"Content-Length: 3",
    b"Content-Length: 0",
    b"content-length:\t5 ",
    b"Content-Length: 5, 5",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: CHUNKED",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Content-Length : 5",
    b" folded",
    b"Host: b",
    b"Connection: close",
]
HARMLESS = [
    b"Connection: Upgrade\r\nUpgrade: h2c",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"X-A: b c \t ",
    b"X-A:",
    b"X-A: \xff\x80",
]
BODIES = [
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nContent-Length: 9\r\n\r\n",
    b"0\r\nHost: b\r\n\r\n",
    b"4\r\n\r\n\r\n\r\n0\r\n\r\n",
    b"00005\r\nhello\r\n0;x\r\n\r\n",
    b"5\r\nhel",
    b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
]
ODD = [
    b"",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\x7f",
    b"\xff",
    b":",
    b";",
    b",",
    b"0",
    b"A",
    b"-",
]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that is valid, contradictory, or not a request at all."""
    body = draw(st.sampled_from(BODIES))
    chunked = body.endswith(b"0\r\n\r\n") and draw(st.booleans())
    framed = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    valid = st.lists(st.sampled_from(HARMLESS), max_size=2).map(lambda fields: [*fields, framed])
    fields = draw(valid | valid | st.lists(st.sampled_from(HARMLESS + FIELDS), max_size=3))
    return b"\r\n".join([draw(st.sampled_from(LINES)), b"Host: a", *fields, b"", body])


@st.composite
def connections(draw: st.DrawFn) -> bytes:
    """The bytes of a connection: requests, perhaps with a few bytes inserted, removed or replaced."""
    data = b"".join(draw(st.lists(requests(), min_size=1, max_size=4)))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at, gone = draw(st.integers(0, len(data))), draw(st.integers(0, 2))
        data = data[:at] + draw(st.sampled_from(ODD)) + data[at + gone :]
    return data


VALID = [
    b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nhello",
    b"GET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
]


@requirement("serve.framing")
@given(connections(), st.data())
@example(b"".join(VALID), None)
@example(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", None)
@example(b"GET / RTSP/1.0\r\nHost: a\r\n\r\n", None)
@example(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None)
@example(b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", None)
def test_the_requests_that_are_heard_are_those_that_another_strict_parser_hears(data: bytes, cuts: Any) -> None:
    places = [0, len(data), *(cuts.draw(st.lists(st.integers(0, len(data)), max_size=4)) if cuts else [])]
    places.sort()
    pieces = [data[begin:end] for begin, end in pairwise(places)]

    async def both() -> tuple[list[Request], list[Request]]:
        return (await exchange(data))[0], (await exchange(*pieces))[0]

    at_once, in_pieces = asyncio.run(both())
    assert in_pieces == at_once
    assert alike(at_once) == alike(heard_by_h11(data))[: len(at_once)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_in_which_pieces_bytes_come_does_not_matter(size: int) -> None:
    whole = b"".join(VALID)
    heard, written = asyncio.run(exchange(*[whole[at : at + size] for at in range(0, len(whole), size)]))
    bodies = [(target, body) for _, target, _, _, body in heard]
    assert bodies == [(b"/1", b"hello"), (b"/2", b"hello"), (b"/3", b"hello"), (b"/4", b"")]
    assert written.count(b"HTTP/1.1 200 OK") == 4
