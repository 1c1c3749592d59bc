"""`openai-compat serve` over WebSocket, frame by frame. The numbers are from the list of faults to survive."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from signal import SIGTERM

import pytest

from tests.adapters.frames import BINARY, CLOSE, MORE, PING, PONG, RawSocket, Received, frame, handshake, refused
from tests.adapters.served import Leash, Served, serve

AGENTS = "served_agents:agents"
LIMIT = 100_000
BAD_EVENT = b'{"type": "nonsense"}'


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve(AGENTS, "--max-request-size", str(LIMIT), "--header-timeout", "300ms") as server:
        yield server


def asked(event: object, size: int) -> bytes:
    """An event padded to `size` bytes."""
    text = json.dumps(event)
    return (text + " " * (size - len(text))).encode()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"version": "12"}, 400),
        ({"version": None}, 400),
        ({"key": "short"}, 400),
        ({"key": None}, 400),
        ({"connection": "keep-alive"}, 426),
    ],
)
def test_a_wrong_handshake_is_told_so(served: Served, fields: dict[str, str | None], status: int) -> None:  # 38
    more = ["Connection: close"] if "connection" in fields else []
    answer = refused(served, handshake(*more, **fields))
    assert answer.status == status
    assert answer.error["type"] == "invalid_request_error"


def test_a_head_that_is_too_long_for_a_websocket_is_refused(served: Served) -> None:
    for header in (["X: " + "y" * 20_000], [f"X-{number}: y" for number in range(300)]):
        answer = refused(served, handshake(*header))
        assert (answer.status, answer.error["code"]) == (431, "invalid_handshake")


def test_a_path_without_a_websocket_is_404(served: Served) -> None:
    assert refused(served, handshake(path="/v1/nothing")).error["code"] == "unknown_url"
    assert "x-request-id" in refused(served, handshake(path="/v1/chat/completions")).headers
    assert "ASGI callable" not in served.log


def test_another_sites_page_and_another_name_are_refused(served: Served) -> None:  # 37, 73
    for origin in ("http://evil.example", "null", "http://localhost.evil.example", "http://localhost:1"):
        answer = refused(served, handshake(f"Origin: {origin}"))
        assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")
    assert refused(served, handshake(host="evil.example")).error["code"] == "host_not_allowed"
    with RawSocket(served, "Origin: http://localhost") as websocket:
        websocket.send(frame(BAD_EVENT))
        assert websocket.receive().json["status"] == 400


def test_the_key_comes_first() -> None:  # 36
    with serve("served_agents:keyed_server") as server:
        for header in ([], ["Authorization: Bearer wrong"], ["Authorization: Basic a-key-of-its-own"]):
            answer = refused(server, handshake(*header))
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        assert refused(server, handshake(path="/v1/nothing")).status == 401
        with RawSocket(server, "Authorization: Bearer a-key-of-its-own") as websocket:
            websocket.create("echo", "let in")
            assert websocket.until("response.completed")[-1]["response"]["output"][0]["content"][0]["text"] == "let in"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(b"hi", mask=False), 1002, id="unmasked"),
        pytest.param(frame(b"hi", rsv=2), 1002, id="reserved bit"),
        pytest.param(frame(zlib.compress(b"hi" * 1000), rsv=4), 1002, id="compressed"),
        pytest.param(frame(b"hi", 3), 1002, id="reserved opcode"),
        pytest.param(frame(b"hi", 11), 1002, id="reserved control opcode"),
        pytest.param(frame(b"hi", PING, fin=False), 1002, id="fragmented ping"),
        pytest.param(frame(b"x" * 126, PING), 1002, id="long ping"),
        pytest.param(frame(b"hi", MORE), 1002, id="nothing to continue"),
        pytest.param(frame(b"a", fin=False) + frame(b"b"), 1002, id="text inside text"),
        pytest.param(frame(b"\xff\xfe"), 1007, id="no UTF-8"),
        pytest.param(frame(b"\xc3", fin=False) + frame(b"(", MORE), 1007, id="no UTF-8, in pieces"),
        pytest.param(frame(b"", length=2**62), 1009, id="claims too much"),
        pytest.param(frame(struct.pack("!H", 1005), CLOSE), 1002, id="close 1005"),
        pytest.param(frame(b"x", CLOSE), 1002, id="half a close code"),
        pytest.param(frame(struct.pack("!H", 1000) + b"\xff", CLOSE), 1007, id="close reason is no UTF-8"),
        pytest.param(frame(struct.pack("!H", 1001), CLOSE), 1001, id="an ordinary close"),
    ],
)
def test_what_is_no_websocket_is_closed_with_its_code(served: Served, data: bytes, code: int) -> None:  # 39-47
    with RawSocket(served) as websocket:
        websocket.send(data)
        assert websocket.close_code() == code
    assert "Traceback" not in served.log


@pytest.mark.parametrize("pieces", [1, 64])
def test_a_message_over_the_limit_is_closed_with_1009_which_its_sender_gets_to_read(
    served: Served, pieces: int
) -> None:  # 48
    before = served.memory()
    with RawSocket(served) as websocket:
        payload = b" " * (64 * LIMIT // pieces)
        websocket.send(b"".join(frame(payload, MORE if n else 1, fin=n == pieces - 1) for n in range(pieces)))
        assert websocket.close_code() == 1009
    assert served.memory() - before < 20_000_000


def test_a_message_just_under_the_limit_is_read_whole_or_in_pieces(served: Served) -> None:  # 52
    message = asked({"type": "nonsense"}, LIMIT)
    with RawSocket(served) as websocket:
        websocket.send(frame(message))
        assert websocket.receive().json["error"]["param"] == "type"
        websocket.send(frame(message[:7], fin=False) + frame(b"in between", PING))
        assert websocket.receive() == Received(PONG, b"in between")
        websocket.send(frame(b"", MORE, fin=False) + frame(message[7:], MORE))
        assert websocket.receive().json["error"]["param"] == "type"


def test_what_comes_byte_by_byte_is_read_all_the_same(served: Served) -> None:  # 34
    with RawSocket(served) as websocket:
        for byte in frame(BAD_EVENT[:5], fin=False) + frame(b"hi", PING) + frame(BAD_EVENT[5:], MORE):
            websocket.send(bytes([byte]))
        assert websocket.receive() == Received(PONG, b"hi")
        assert websocket.receive().json["error"]["param"] == "type"


def test_compression_is_not_negotiated(served: Served) -> None:  # 49
    with served.connect() as connection:
        connection.send(handshake("Sec-WebSocket-Extensions: permessage-deflate"))
        assert b"permessage-deflate" not in connection.until(b"\r\n\r\n")


def test_a_message_in_very_many_pieces_takes_no_more_memory_than_it_is_long(served: Served) -> None:
    with serve(AGENTS) as server, RawSocket(server) as websocket:
        before = server.memory()
        websocket.send(frame(b"{}", fin=False))
        for _ in range(30):
            websocket.send(frame(b"  ", MORE, fin=False) * 10_000)
        websocket.send(frame(b" ", MORE))
        assert websocket.receive().json["error"]["param"] == "type"
        assert server.memory() - before < 10_000_000


@pytest.mark.parametrize(
    "message",
    [b"", b"{", b"[]", b"1", b'"text"', b'{"type": 1}', b"{}", b'{"type":"response.cancel"}', b"[" * 90_000, b"NaN"],
)
def test_nonsense_is_answered_and_the_connection_goes_on(served: Served, message: bytes) -> None:  # 50
    with RawSocket(served) as websocket:
        websocket.send(frame(message))
        refusal = websocket.receive().json
        assert (refusal["type"], refusal["status"]) == ("error", 400)
        assert {"type", "code", "message", "param"} <= set(refusal["error"])
        websocket.send(frame(b"\x93\x01", BINARY))
        assert websocket.receive().json["error"]["code"] == "invalid_frame"
        websocket.create("echo", "still here")
        assert websocket.until("response.completed")[-1]["response"]["status"] == "completed"


def test_a_websocket_outlasts_the_deadline_of_its_head_and_pings_are_answered(served: Served) -> None:  # 52
    with Leash() as leash, RawSocket(served) as websocket:
        websocket.create("leashed", leash.prompt)
        leash.wait_for_agent()
        leash.say("one")
        websocket.until("response.output_text.delta")
        end, number = time.monotonic() + 1, 0
        while time.monotonic() < end:
            number += 1
            websocket.send(frame(b"%d" % number, PING))
            got = websocket.receive()
            assert got.payload == b"%d" % number, got.payload[:400]
        leash.say(" two")
        leash.say("")
        assert websocket.until("response.completed")[-1]["response"]["output"][0]["content"][0]["text"] == "one two"


@pytest.mark.parametrize("how", ["close frame", "end", "reset"])
def test_a_client_that_leaves_stops_its_agents(served: Served, how: str) -> None:  # 53
    with Leash() as one, Leash() as other, RawSocket(served) as websocket:
        websocket.create("leashed", one.prompt)
        websocket.create("leashed", other.prompt, stream_id="b")
        one.wait_for_agent()
        other.wait_for_agent()
        began = time.monotonic()
        if how == "close frame":
            websocket.send(frame(struct.pack("!H", 1000), CLOSE))
        elif how == "end":
            websocket.connection.socket.close()
        else:
            websocket.reset()
        assert (one.last_words, other.last_words) == ("finally", "finally")
        assert time.monotonic() - began < 3


def test_a_client_without_pongs_is_dropped_and_its_agent_stopped() -> None:  # 54
    with serve(AGENTS, "--ping", "200ms") as server, Leash() as leash, RawSocket(server) as websocket:
        websocket.create("leashed", leash.prompt)
        leash.wait_for_agent()
        ping = websocket.receive()
        assert ping.opcode == PING
        websocket.send(frame(ping.payload, PONG))
        assert websocket.receive().opcode == PING
        assert leash.last_words == "finally"
        assert websocket.close_code() == 1011


def test_a_client_that_reads_nothing_costs_no_memory_and_is_cut() -> None:  # 55
    with serve(AGENTS, "--write-timeout", "1s") as server, Leash() as leash, RawSocket(server) as websocket:
        before = server.memory()
        websocket.create("endless", leash.prompt)
        leash.wait_for_agent()
        assert leash.last_words == "finally"
        assert server.memory() - before < 40_000_000
        server.wait_for("a client read nothing for 1 s")


def test_pings_of_a_client_that_reads_nothing_are_not_read_without_end() -> None:
    with serve(AGENTS, "--write-timeout", "1s") as server, RawSocket(server) as websocket:
        before, sent = server.memory(), 0
        websocket.connection.socket.settimeout(0.5)
        pings = frame(b"x" * 125, PING) * 1000
        with suppress(TimeoutError, ConnectionError):
            while sent < 400_000_000:
                sent += websocket.connection.socket.send(pings)
        assert sent < 400_000_000
        assert server.memory() - before < 20_000_000
        server.wait_for("a client read nothing for 1 s")


def test_requests_in_a_turn_wait_for_it_and_too_many_are_refused(served: Served) -> None:  # 56
    with Leash() as leash, RawSocket(served) as websocket:
        websocket.create("leashed", leash.prompt)
        leash.wait_for_agent()
        for number in range(64):
            websocket.create("echo", str(number))
        websocket.create("echo", "one too many")
        refusal = websocket.until("error")[-1]
        assert (refusal["status"], refusal["error"]["code"]) == (429, "websocket_queue_full")
        leash.say("first")
        leash.say("")
        said = [
            websocket.until("response.completed")[-1]["response"]["output"][0]["content"][0]["text"] for _ in range(65)
        ]
        assert said == ["first", *map(str, range(64))]


def test_what_an_agent_raises_is_not_shown(served: Served) -> None:  # 57
    with RawSocket(served) as websocket:
        websocket.create("fails")
        refusal = websocket.receive().json
        assert (refusal["type"], refusal["status"]) == ("error", 500)
        assert "secret" not in json.dumps(refusal)
        websocket.create("echo", "still here")
        assert websocket.until("response.completed")


def test_a_hundred_that_come_and_go_leave_nothing(served: Served) -> None:  # 58
    descriptors = Path(f"/proc/{served.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    with ExitStack() as stack:
        for number in range(100):
            websocket = stack.enter_context(RawSocket(served))
            websocket.create("echo", str(number))
            assert websocket.until("response.completed")
    deadline = time.monotonic() + 10
    while len(list(descriptors.iterdir())) > before:
        assert time.monotonic() < deadline
        assert served.ask("echo").status == 200


def test_an_idle_websocket_is_closed_at_once_when_the_server_ends() -> None:  # 204
    with serve(AGENTS) as server, RawSocket(server) as websocket:
        websocket.create("echo")
        websocket.until("response.completed")
        server.signal(SIGTERM)
        assert websocket.close_code() == 1012
        assert server.ended(3) == 0
        assert server.log.splitlines()[-1].endswith("stopped")


def test_a_turn_on_a_websocket_may_end_and_others_are_told_to_go_elsewhere() -> None:  # 204
    with serve(AGENTS) as server, Leash() as leash, RawSocket(server) as websocket:
        websocket.create("leashed", leash.prompt)
        leash.wait_for_agent()
        leash.say("one")
        server.signal(SIGTERM)
        refusal = None
        while refusal is None or refusal["error"]["code"] != "shutting_down":
            websocket.create("nothing", stream_id="b")
            refusal = websocket.until("error")[-1]
        leash.say(" two")
        leash.say("")
        response = websocket.until("response.completed")[-1]["response"]
        assert response["output"][0]["content"][0]["text"] == "one two"
        assert websocket.close_code() == 1012
        assert server.ended(3) == 0


def test_a_turn_that_does_not_end_is_stopped_and_its_client_told() -> None:  # 200, 204
    with serve(AGENTS, "--grace", "300ms") as server, Leash() as leash, RawSocket(server) as websocket:
        websocket.create("leashed", leash.prompt)
        leash.wait_for_agent()
        leash.say("one")
        websocket.until("response.output_text.delta")
        server.signal(SIGTERM)
        assert websocket.until("response.failed")
        assert websocket.close_code() == 1012
        assert leash.last_words == "finally"
        assert server.ended(3) == 0
