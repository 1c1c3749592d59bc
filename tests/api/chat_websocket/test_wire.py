"""The chat WebSocket of `openai-compat serve`, frame by frame. Numbers refer to the list of faults to survive."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGTERM
from typing import Any

import msgpack
import pytest

from tests.adapters.frames import BINARY, CLOSE, MORE, PING, PONG, RawSocket, Received, frame, handshake, refused
from tests.adapters.served import Leash, Served, serve
from tests.api.chat_websocket.served_chat import LIMIT
from tests.api.chat_websocket.test_messagepack import BOMBS
from tests.requirements import requirement

HERE = Path(__file__).parent
LAST = ("message", "error", "generation_stopped")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve("served_chat:server", cwd=HERE) as server:
        yield server


class Socket(RawSocket):
    """A chat WebSocket."""

    def __init__(self, served: Served, *headers: str, query: str = "") -> None:
        self.connection = served.connect()
        self.connection.send(handshake(*headers, path="/chat" + query))
        head = self.connection.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    def chat(self, model: str, content: str = "hi", **fields: Any) -> None:
        self.say(**{"role": "user", "content": content, "model": model, "thread_id": "t", **fields})

    def next(self) -> dict[str, Any]:
        """The next frame, whatever its encoding."""
        received = self.receive()
        return msgpack.unpackb(received.payload) if received.opcode == BINARY else received.json

    def until(self, *types: str) -> list[dict[str, Any]]:
        frames = [self.next()]
        while frames[-1]["type"] not in (types or LAST):
            frames.append(self.next())
        return frames


def test_json_is_answered_in_json_and_messagepack_in_messagepack(served: Served) -> None:  # 35
    with Socket(served) as websocket:
        websocket.chat("echo", "text")
        while (received := websocket.receive()).json["type"] != "message":
            pass
        assert received.json["content"] == "text"
        body = {"role": "user", "content": "binary", "model": "echo"}
        websocket.send(frame(msgpack.packb(body), BINARY))
        while (fields := msgpack.unpackb((received := websocket.receive()).payload))["type"] != "message":
            assert received.opcode == BINARY
        assert fields["content"] == "binary"


def test_the_key_is_in_the_header_or_the_query_and_never_in_the_log() -> None:  # 36, 79
    key = "a-key-of-its-own"
    with serve("served_chat:keyed", cwd=HERE) as server:
        for path, headers in (
            ("/chat", []),
            ("/chat?api_key=wrong", []),
            ("/chat?api_key=" + key[:-1], []),
            ("/chat?api_key=" + key, ["Authorization: Bearer wrong"]),
        ):
            answer = refused(server, handshake(*headers, path=path))
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        with Socket(server, query=f"?api_key={key}") as websocket:
            websocket.chat("echo", "let in")
            assert websocket.until()[-1]["content"] == "let in"
        with Socket(server, f"Authorization: Bearer {key}") as websocket:
            websocket.chat("echo", "let in")
            assert websocket.until()[-1]["content"] == "let in"
        server.wait_for(r" 200 .* chat /chat ")
        server.signal(SIGTERM)
        server.ended(5)
        assert key not in server.log
        assert "let in" not in server.log


def test_another_sites_page_is_refused(served: Served) -> None:  # 37
    for origin in ("http://evil.example", "null"):
        answer = refused(served, handshake(f"Origin: {origin}", path="/chat"))
        assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")
    assert refused(served, handshake(path="/chat", host="evil.example")).error["code"] == "host_not_allowed"


@pytest.mark.parametrize("pieces", [1, 64])
@pytest.mark.parametrize("opcode", [1, BINARY])
def test_a_message_over_the_limit_is_closed_with_1009(served: Served, pieces: int, opcode: int) -> None:  # 48
    before = served.memory()
    with Socket(served) as websocket:
        payload = b" " * (64 * LIMIT // pieces)
        websocket.send(b"".join(frame(payload, MORE if n else opcode, fin=n == pieces - 1) for n in range(pieces)))
        assert websocket.close_code() == 1009
    assert served.memory() - before < 20_000_000


def test_compression_is_not_negotiated(served: Served) -> None:  # 49
    with served.connect() as connection:
        connection.send(handshake("Sec-WebSocket-Extensions: permessage-deflate", path="/chat"))
        assert b"permessage-deflate" not in connection.until(b"\r\n\r\n")


@pytest.mark.parametrize("message", [b"", b"{", b"[]", b"1", b'"text"', b'{"type": 1}', b"[" * 90_000, b"NaN"])
def test_nonsense_is_answered_and_the_connection_goes_on(served: Served, message: bytes) -> None:  # 50
    with Socket(served) as websocket:
        websocket.send(frame(message))
        refusal = websocket.receive().json
        assert (refusal["type"], refusal["status"]) == ("error", 400)
        websocket.chat("echo", "still here")
        assert websocket.until()[-1]["content"] == "still here"


@requirement("chatws.bombs")
def test_messagepack_bombs_are_answered_with_memory_flat(served: Served) -> None:  # 51
    with Socket(served) as websocket:
        websocket.chat("echo")
        websocket.until()
        before = served.memory()
        for bomb in BOMBS.values():
            websocket.send(frame(bomb[: LIMIT - 1], BINARY))
            received = websocket.receive()
            assert received.opcode == BINARY
            assert msgpack.unpackb(received.payload)["error"]["code"] == "invalid_frame"
        assert served.memory() - before < 10_000_000
        websocket.chat("echo", "still here")
        assert websocket.until()[-1]["content"] == "still here"


def test_pings_are_answered_while_the_agent_runs_and_pieces_are_joined(served: Served) -> None:  # 52
    with Leash() as leash, Socket(served) as websocket:
        message = json.dumps({"role": "user", "content": leash.prompt, "model": "leashed"}).encode()
        websocket.send(frame(message[:9], fin=False) + frame(b"in between", PING) + frame(message[9:], MORE))
        assert websocket.receive() == Received(PONG, b"in between")
        leash.wait_for_agent()
        leash.say("one")
        websocket.until("chunk")
        websocket.send(frame(b"hi", PING))
        assert websocket.receive() == Received(PONG, b"hi")
        websocket.say(type="ping")
        assert websocket.next()["type"] == "pong"
        leash.say("")
        assert websocket.until()[-1]["content"] == "one"


@pytest.mark.parametrize("how", ["close frame", "end", "reset"])
def test_a_client_that_leaves_for_good_stops_its_agent(served: Served, how: str) -> None:  # 53
    with Leash() as leash, Socket(served) as websocket:
        websocket.chat("leashed", leash.prompt, thread_id=how)
        leash.wait_for_agent()
        began = time.monotonic()
        if how == "close frame":
            websocket.send(frame(struct.pack("!H", 1000), CLOSE))
        elif how == "end":
            websocket.connection.socket.close()
        else:
            websocket.reset()
        assert leash.last_words == "finally"
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("how", ["close frame", "reset"])
def test_a_client_that_comes_back_finds_its_turn(how: str) -> None:
    with serve("served_chat:patient", cwd=HERE) as server, Leash() as leash:
        with Socket(server) as websocket:
            websocket.chat("leashed", leash.prompt)
            leash.wait_for_agent()
            leash.say("one")
            last = websocket.until("chunk")[-1]["chat_seq"]
            if how == "reset":
                websocket.reset()
            else:
                websocket.send(frame(struct.pack("!H", 1000), CLOSE))
                assert websocket.close_code() == 1000
        leash.say(" two")
        leash.say("")
        with Socket(server) as websocket:
            websocket.say(type="resume_chat", thread_id="t", last_seq=last)
            frames = websocket.until("message")
            assert (frames[0]["type"], frames[-1]["content"]) == ("chat_resumed", "one two")
            assert [f["chat_seq"] for f in frames[1:]] == list(range(last + 1, last + len(frames)))


def test_a_client_that_reads_nothing_costs_no_memory_and_is_cut() -> None:  # 55
    with serve("served_chat:impatient", cwd=HERE) as server, Leash() as leash:
        with Socket(server) as websocket:
            before = server.memory()
            websocket.chat("endless", leash.prompt)
            leash.wait_for_agent()
            assert leash.last_words == "finally"
            assert server.memory() - before < 40_000_000


def test_an_answer_without_end_that_nobody_follows_takes_no_memory_without_end() -> None:
    with serve("served_chat:patient", cwd=HERE) as server, Leash() as leash:
        with Socket(server) as websocket:
            websocket.chat("endless", leash.prompt)
            leash.wait_for_agent()
            websocket.until("chunk")
            before = server.memory()
        with Socket(server) as websocket:
            websocket.say(type="resume_chat", thread_id="t", last_seq=1)
            assert websocket.until("chat_resumed")[-1]["status"] == "running"
            websocket.say(type="stop", thread_id="t")
            frames = websocket.until("generation_stopped", "error")
            assert frames[-1]["thread_id"] == "t"
        assert leash.last_words == "finally"
        assert server.memory() - before < 250_000_000


def test_a_message_in_a_turn_takes_its_place_and_is_never_mixed_with_it(served: Served) -> None:  # 56
    with Leash() as leash, Socket(served) as websocket:
        websocket.chat("leashed", leash.prompt, thread_id="56")
        leash.wait_for_agent()
        leash.say("old")
        websocket.until("chunk")
        websocket.chat("echo", "new", thread_id="56")
        assert websocket.until()[-1]["reason"] == "superseded"
        frames = websocket.until()
        assert "".join(f["content"] for f in frames if f["type"] == "chunk") == frames[-1]["content"] == "new"
        assert leash.last_words == "finally"


def test_what_an_agent_raises_is_not_shown(served: Served) -> None:  # 57
    with Socket(served) as websocket:
        websocket.chat("fails", thread_id="57")
        refusal = websocket.until()[-1]
        assert (refusal["type"], refusal["status"]) == ("error", 500)
        assert "secret" not in json.dumps(refusal)


def test_a_hundred_that_come_and_go_leave_nothing(served: Served) -> None:  # 58
    descriptors = Path(f"/proc/{served.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    with ExitStack() as stack:
        for number in range(100):
            websocket = stack.enter_context(Socket(served))
            websocket.chat("echo", str(number), thread_id=f"58-{number}")
            assert websocket.until()[-1]["content"] == str(number)
    deadline = time.monotonic() + 10
    while len(list(descriptors.iterdir())) > before:
        assert time.monotonic() < deadline
        assert served.ask("echo").status == 200


def test_at_its_end_the_server_closes_idle_connections_and_lets_turns_end() -> None:  # 204
    with serve("served_chat:patient", cwd=HERE) as server, Leash() as leash:
        with Socket(server) as idle, Socket(server) as busy:
            idle.chat("echo", thread_id="idle")
            idle.until()
            busy.chat("leashed", leash.prompt)
            leash.wait_for_agent()
            leash.say("one")
            busy.until("chunk")
            server.signal(SIGTERM)
            assert idle.receive().code == 1012
            busy.chat("echo", "more", thread_id="other")
            assert busy.until("error")[-1]["error"]["code"] == "shutting_down"
            leash.say(" two")
            leash.say("")
            assert busy.until("message")[-1]["content"] == "one two"
            assert busy.close_code() == 1012
            assert server.ended(5) == 0
