"""`openai-compat serve` against hostile and odd HTTP, over raw sockets. The numbers are from the threat list."""

from __future__ import annotations

import gzip
import json
import logging
import random
import re
import select
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest
import uvicorn

from openai_compat import Server
from openai_compat_adapters._serving.http1 import Http1Protocol
from openai_compat_adapters.serve import listen
from openai_compat_adapters.starlette import endpoint
from tests.adapters.served import PATIENCE, Answer, Leash, Served, answers, chat, head, post, serve

SHORT = ("--header-timeout", "1", "--body-timeout", "1", "--write-timeout", "1", "--heartbeat", "0.2")
HI = json.dumps({"model": "counted", "messages": [{"role": "user", "content": "hi"}]}).encode()
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HI), HI)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve("served_agents:agents", *SHORT, "--idle-timeout", "2", "--max-request-size", "1MB") as server:
        yield server
        assert "Traceback" not in re.sub(r"(?s)the agent failed\nTraceback.*?RuntimeError.*?\n", "", server.log)


@pytest.fixture
def runs(served: Served) -> Iterator[None]:
    """The agent "counted" must not run during the test."""
    before = served.ask("runs").text
    yield
    assert served.ask("runs").text == before


def refused(found: list[Answer], *statuses: int) -> None:
    """Assert at most one response, with one of these statuses and an error envelope."""
    assert len(found) <= 1
    for answer in found:
        assert answer.status in statuses
        assert answer.error["type"] == "invalid_request_error"


def post_head(*headers: str) -> bytes:
    return head("POST", "/v1/chat/completions", "Content-Type: application/json", *headers)


# invalid and ambiguous HTTP


LENGTHS = ["Content-Length: 5", "Transfer-Encoding: chunked"]


@pytest.mark.parametrize("lines", [LENGTHS, LENGTHS[::-1]])
def test_a_request_with_two_lengths_is_refused_and_its_connection_closed(  # 1
    served: Served, runs: None, lines: list[str]
) -> None:
    (answer,) = served.exchange(post_head(*lines) + CHUNKED + head("GET", "/v1/models"))
    assert answer.status == 400
    assert answer.headers["connection"] == "close"


def test_so_is_one_that_was_pipelined_behind_another(served: Served) -> None:
    first = head("GET", "/healthz")
    ambiguous = post_head(*LENGTHS) + CHUNKED
    found = served.exchange(first + ambiguous + first)
    assert [answer.status for answer in found] == [200, 400]


@pytest.mark.parametrize(
    "line",
    [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
    ],
)
def test_unknown_transfer_encodings_are_refused(served: Served, runs: None, line: str) -> None:  # 2
    refused(served.exchange(post_head(line) + CHUNKED + head("GET", "/v1/models")), 400, 501)


def test_two_different_content_lengths_are_refused(served: Served, runs: None) -> None:  # 3
    refused(served.exchange(post_head("Content-Length: 2", f"Content-Length: {len(HI)}") + HI), 400)


@pytest.mark.parametrize(
    "length", ["-1", "+5", "0x10", "5 5", "1e3", "1" + "0" * 40, "5,6", "", "٥".encode().decode("latin-1")]
)
def test_a_content_length_that_is_no_number_is_refused(served: Served, runs: None, length: str) -> None:  # 4
    refused(served.exchange(post_head(f"Content-Length: {length}") + HI), 400, 413)


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"-1\r\n{}\r\n0\r\n\r\n",
        b"F" * 17 + b"\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"1_0\r\n{}\r\n0\r\n\r\n",
        b"1" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}X\r\n0\r\n\r\n",
        b"2\n{}\r\n0\r\n\r\n",
        b"2 \r\n{}\r\n0\r\n\r\n",
        b"2;a=\0\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0\r\nContent-Length: 2\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX : y\r\n\r\n",
    ],
)
def test_broken_chunks_are_refused_before_the_agent_runs(served: Served, runs: None, body: bytes) -> None:  # 5
    refused(served.exchange(post_head("Transfer-Encoding: chunked") + body), 400, 408, 431)


@pytest.mark.parametrize("part", [b"2;" + b"a" * 600_000, b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 100_000])
def test_a_chunked_body_has_no_endless_extensions_and_trailers(served: Served, runs: None, part: bytes) -> None:  # 5
    refused(served.exchange(post_head("Transfer-Encoding: chunked") + part), 400, 431)


def test_http_1_0_has_no_chunked_bodies(served: Served, runs: None) -> None:
    request = post_head("Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0", 1) + CHUNKED
    refused(served.exchange(request), 400)


MALFORMED = ["X-A : b", "X-A: b\0c", "X-A: b\rc", "X A: b", ": b", "X-A\x01: b"]
MALFORMED += ["X-A", " X-A: b", "X-A: b\r\n c", "X-A: b\nX-B: c", "X-A: b\x7fc", "X-A: b\x0bc", "X-A\xff: b"]


@pytest.mark.parametrize("line", MALFORMED)
def test_malformed_header_lines_are_refused(served: Served, runs: None, line: str) -> None:  # 6
    refused(served.exchange(post_head(line, f"Content-Length: {len(HI)}") + HI), 400)


@pytest.mark.parametrize("hosts", ["", "Host: localhost\r\nHost: localhost\r\n", "Host: a\r\nHost: b\r\n"])
def test_a_request_without_exactly_one_host_is_refused(served: Served, hosts: str) -> None:  # 7
    refused(served.exchange(f"GET /v1/models HTTP/1.1\r\n{hosts}\r\n".encode()), 400)


def test_a_header_of_a_mebibyte_is_refused(served: Served) -> None:  # 8
    refused(served.exchange(head("GET", "/v1/models", "X-A: " + "a" * 2**20)), 431)


def test_twenty_thousand_headers_are_refused_quickly(served: Served) -> None:  # 9
    began = time.monotonic()
    refused(served.exchange(head("GET", "/v1/models", *[f"X-{i}: {i}" for i in range(20_000)])), 400, 431)
    assert time.monotonic() - began < 3


def test_a_target_of_two_hundred_kilobytes_is_refused(served: Served) -> None:  # 10
    refused(served.exchange(head("GET", "/v1/" + "a" * 200_000)), 400, 414, 431)


@pytest.mark.parametrize(
    "data",
    [
        random.Random(11).randbytes(500) + b"\r\n\r\n",
        bytes.fromhex("16030100ca010000c60303") + bytes(200) + b"\r\n\r\n",
        b"GET /v1/models\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/models HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"GET /v1/models RTSP/1.0\r\nHost: localhost\r\n\r\n",
        b"GET  /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\r\nGET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["random", "tls", "http/0.9", "h2", "http/2.0", "rtsp", "two spaces", "empty line"],
)
def test_what_is_no_http_1_is_refused_and_the_server_lives_on(served: Served, data: bytes) -> None:  # 11
    found = served.exchange(data)
    assert found
    assert all(400 <= answer.status < 500 for answer in found)
    assert served.ask("echo").text == "hi"


# methods and paths


def test_a_wrong_method_is_told_the_right_ones(served: Served) -> None:  # 12
    (answer,) = served.exchange(head("DELETE", "/v1/chat/completions", "Connection: close"))
    assert answer.status == 405
    assert answer.headers["allow"] == "POST, GET, HEAD"
    assert answer.error["code"] == "method_not_supported"


@pytest.mark.parametrize("target", ["/", "/v1", "/v1/nope", "/chat/completions", "*", "http://localhost/v1/nope"])
def test_an_unknown_path_is_a_404(served: Served, target: str) -> None:  # 12
    (answer,) = served.exchange(head("GET", target, "Connection: close"))
    assert answer.status == 404
    assert answer.error["code"] == "unknown_url"


@pytest.mark.parametrize(("target", "status"), [("http://localhost/v1/models", 200), ("http://else/v1/models", 400)])
def test_a_target_may_name_the_host_once_more(served: Served, target: str, status: int) -> None:
    (answer,) = served.exchange(head("GET", target, "Connection: close"))
    assert answer.status == status


def test_there_is_no_tunnel_to_elsewhere(served: Served) -> None:
    (answer,) = served.exchange(head("CONNECT", "localhost:443") + b"GET / HTTP/1.1\r\n\r\n")
    assert answer.status == 501
    assert answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/%2e%2e/%2e%2e/etc/passwd",
        "//v1/models",
        "/v1/models/%00",
        "/v1/models/%ff",
        "/v1/models/" + "a" * 5000,
        "/v1/models/%0d%0aX-Injected:%20yes",
        "/v1/models/%",
        "/v1/models/..;/x",
    ],
)
def test_odd_paths_are_no_failures_and_inject_nothing(served: Served, path: str) -> None:  # 13
    (answer,) = served.exchange(head("GET", path, "Connection: close"))
    assert answer.status in {400, 404}
    assert answer.error["type"] == "invalid_request_error"
    assert "x-injected" not in answer.headers


def test_head_is_get_without_the_body(served: Served) -> None:  # 24
    (got,) = served.exchange(head("GET", "/v1/models", "Connection: close"))
    (headed,) = served.exchange(head("HEAD", "/v1/models", "Connection: close"), "HEAD")
    assert headed.status == 200
    assert headed.body == b""
    assert headed.headers["content-length"] == got.headers["content-length"]


def test_options_without_cors_is_a_wrong_method(served: Served) -> None:  # 24
    (answer,) = served.exchange(head("OPTIONS", "/v1/models", "Connection: close"))
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_a_hostile_request_id_is_not_reflected(served: Served) -> None:  # 23
    (answer,) = served.exchange(head("GET", "/healthz", "X-Request-Id: <script>evil</script>", "Connection: close"))
    assert re.fullmatch("req_[0-9a-f]{32}", answer.headers["x-request-id"])


# versions, pipelining, 100-continue


def test_a_stream_over_http_1_0_has_no_chunks_and_ends_with_the_connection(served: Served) -> None:  # 14
    request = chat("echo", stream=True).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    (answer,) = served.exchange(request)
    assert "transfer-encoding" not in answer.headers
    assert answer.streamed_text == "hi"


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:  # 15
    requests = [chat("echo", "one"), chat("echo", "two", stream=True), chat("echo", "three", close=True)]
    one, two, three = served.exchange(b"".join(requests))
    assert (one.text, two.streamed_text, three.text) == ("one", "two", "three")


def test_what_is_no_http_waits_for_the_answer_that_was_asked_for_before_it(served: Served) -> None:
    with Leash() as leash, served.connect() as connection:
        connection.send(chat("leashed", leash.prompt, stream=True) + b"nonsense\r\n\r\n")
        leash.wait_for_agent()
        leash.say("one")
        received = connection.until(b'"content":"one"')
        leash.say("")
        streamed, refusal = answers(received + connection.rest())
    assert streamed.streamed_text == "one"
    refused([refusal], 400)


def test_the_body_of_a_request_that_offers_another_protocol_is_read(served: Served) -> None:
    """Java's HTTP client offers HTTP/2 with every request."""
    offer = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    )
    first, second = served.exchange(post(HI.replace(b"counted", b"echo"), *offer) + chat("echo", close=True))
    assert (first.text, second.text) == ("hi", "hi")


def test_a_body_that_is_announced_too_large_is_refused_without_asking_for_it(served: Served) -> None:  # 16
    (answer,) = served.exchange(post_head("Content-Length: 9999999", "Expect: 100-continue"))
    assert answer.status == 413
    assert answer.informational == []
    assert answer.headers["connection"] == "close"  # the body may come or not
    assert answer.error["code"] == "request_too_large"


def test_a_body_that_is_wanted_is_asked_for(served: Served) -> None:  # 16
    with served.connect() as connection:
        connection.send(post_head(f"Content-Length: {len(HI)}", "Expect: 100-continue"))
        assert connection.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(HI + chat("echo", "again", close=True))
        asked, again = answers(connection.rest())
    assert (asked.text, again.text) == ("hi", "again")


# slow clients


def test_a_head_that_comes_drop_by_drop_is_cut(served: Served) -> None:  # 17
    began = time.monotonic()
    with served.connect() as connection:
        connection.send(b"GET /v1/models HTTP/1.1\r\n")
        received = connection.drip(b"X-Header: a\r\n" * 20, pause=0.1)
    assert time.monotonic() - began < 4
    refused(answers(received), 408)


def test_a_slow_head_is_cut_on_a_connection_that_was_used_before(served: Served) -> None:
    with served.connect() as connection:
        connection.send(head("GET", "/healthz"))
        connection.until(b'{"status":"ok"}')
        received = connection.drip(b"GET /v1/models HTTP/1.1\r\nX-Header: " + b"a" * 100, pause=0.1)
    refused(answers(received), 408)


def test_a_silent_connection_is_cut(served: Served) -> None:  # 18
    with served.connect() as connection:
        refused(answers(connection.rest(4)), 408)


def test_an_idle_connection_is_closed_without_a_word(served: Served) -> None:
    with served.connect() as connection:
        connection.send(head("GET", "/healthz"))
        connection.until(b'{"status":"ok"}')
        assert connection.rest(6) == b""


def test_a_body_that_comes_drop_by_drop_is_cut_before_the_agent_runs(served: Served, runs: None) -> None:  # 19
    with served.connect() as connection:
        connection.send(post_head(f"Content-Length: {len(HI)}"))
        (answer,) = answers(connection.drip(HI, pause=0.1))
    assert answer.status == 408
    assert answer.error["code"] == "request_timeout"


def test_a_body_that_nobody_wants_keeps_no_connection_open(served: Served) -> None:
    began = time.monotonic()
    with served.connect() as connection:
        connection.send(head("POST", "/v1/nope", "Content-Length: 1000000"))
        (answer,) = answers(connection.drip(b"x" * 100, pause=0.1))
    assert answer.status == 404
    assert time.monotonic() - began < 4


def test_broken_chunks_after_the_answer_just_end_the_connection(served: Served) -> None:
    with served.connect() as connection:
        connection.send(head("POST", "/v1/nope", "Transfer-Encoding: chunked"))
        connection.until(b"unknown_url")
        connection.send(b"zz\r\n")
        assert b"HTTP/1.1" not in connection.rest()


def test_a_hundred_stalled_connections_keep_nobody_waiting(served: Served) -> None:  # 20
    with ExitStack() as stack:
        for index in range(100):
            stalled = stack.enter_context(served.connect())
            stalled.send([b"", b"GET / HT", post_head("Content-Length: 10")][index % 3])
        began = time.monotonic()
        assert served.ask("echo").text == "hi"
        assert time.monotonic() - began < 2


def test_a_client_that_reads_nothing_is_cut_and_the_agent_ends(served: Served) -> None:
    with Leash() as leash, served.connect() as connection:
        connection.send(chat("endless", leash.prompt, stream=True))
        leash.wait_for_agent()
        assert leash.last_words == "finally"
        assert b"[DONE]" not in connection.rest()
        served.wait_for("a client read nothing for 1 s")


def test_a_connection_is_cut_even_if_only_the_end_of_a_complete_answer_is_not_read(served: Served) -> None:
    with served.connect() as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.send(chat("big", "20000000", close=True))
        served.wait_for("a client read nothing for 1 s")
        assert len(connection.rest()) < 200_000  # the megabytes that the kernel has accepted are dropped too


def test_a_connection_is_cut_however_little_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = threading.Event()

    class Noticing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "read nothing" in record.getMessage():
                cut.set()

    ours = logging.getLogger("openai_compat")
    monkeypatch.setattr(ours, "handlers", [*ours.handlers, Noticing()])
    server = Server({"big": lambda prompt: "x" * 30_000})
    http = partial(Http1Protocol, header_timeout=5, write_timeout=0.3)
    with listen(server, "127.0.0.1", 0) as listener, socket.socket() as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        config = uvicorn.Config(
            endpoint(server), http=http, lifespan="off", log_config=None, timeout_graceful_shutdown=3
        )
        runner = uvicorn.Server(config)
        thread = threading.Thread(target=runner.run, args=([listener],))
        thread.start()
        client.connect(listener.getsockname())
        client.sendall(chat("big"))
        was_cut = cut.wait(PATIENCE)
        runner.should_exit = True
        thread.join(PATIENCE)
    assert was_cut


def test_a_client_that_reads_slowly_but_steadily_gets_everything(served: Served) -> None:
    with served.connect() as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**17)
        connection.send(chat("big", "12000000", close=True))
        received = b""
        while piece := connection.socket.recv(300_000, socket.MSG_WAITALL):
            received += piece
            select.select([], [], [], 0.05)  # this client is slow on purpose
    (answer,) = answers(received)
    assert len(answer.text) == 12_000_000


# bodies


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_bomb_is_opened_no_further_than_the_limit(  # 21
    served: Served, runs: None, coding: str, compress: Callable[[bytes, int], bytes]
) -> None:
    bomb = compress(bytes(300 * 2**20), 9)
    before = served.memory()
    (answer,) = served.exchange(post(bomb, f"Content-Encoding: {coding}", close=True))
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert served.memory() - before < 60 * 2**20


def test_an_unknown_coding_is_refused_with_those_that_are_taken(served: Served, runs: None) -> None:
    (answer,) = served.exchange(post(b"x", "Content-Encoding: br", close=True))
    assert answer.status == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate, identity"


@pytest.mark.parametrize(
    "body", [b"\xff\xfe" + HI, HI.decode().encode("utf-16"), HI[:-1] + b"\0", b"\0" * 100, b"\x80"]
)
def test_bodies_that_are_no_utf_8_json_are_refused(served: Served, runs: None, body: bytes) -> None:  # 22
    (answer,) = served.exchange(post(body, close=True))
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"


def test_a_chunked_body_over_the_limit_is_refused_while_it_comes(served: Served, runs: None) -> None:
    with served.connect() as connection:
        connection.send(post_head("Transfer-Encoding: chunked"))
        connection.send((b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 17)
        assert connection.until(b"\r\n").startswith(b"HTTP/1.1 413 ")


# answers


def test_small_pieces_are_sent_at_once() -> None:
    """Nagle's algorithm would delay each piece until the client has acknowledged the one before."""
    server = Server(lambda prompt: prompt)
    with listen(server, "127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_stream_has_the_headers_that_keep_proxies_from_holding_it_back(served: Served) -> None:  # 25
    headers = served.ask("echo", stream=True).headers
    assert headers["content-type"].startswith("text/event-stream")
    assert "no-store" in headers["cache-control"]
    assert headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers


def test_a_streams_chunks_come_in_the_order_that_clients_need(served: Served) -> None:  # 26
    chunks = served.ask("pieces", "abc", stream=True).chunks
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert {(c["id"], c["created"], c["model"]) for c in chunks} == {(chunks[0]["id"], chunks[0]["created"], "pieces")}
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]


HOSTILE = "a\n\ndata: [DONE]\n\n\r\n\r\u2028\u2029\0\ufeff\x85\x0b: x\n"


@pytest.mark.parametrize("model", ["echo", "pieces"])
def test_text_that_looks_like_the_framing_arrives_as_it_was_said(served: Served, model: str) -> None:  # 27
    assert served.ask(model, HOSTILE, stream=True).streamed_text == HOSTILE
    assert served.ask(model, HOSTILE).text == HOSTILE


def test_a_lone_surrogate_is_replaced_and_the_answer_complete(served: Served) -> None:  # 28
    assert served.ask("lone_surrogate", stream=True).streamed_text == "before \ufffd after"
    assert served.ask("lone_surrogate").text == "before \ufffd after"


def test_each_word_of_an_agent_is_there_before_it_says_the_next(served: Served) -> None:  # 29
    with Leash() as leash, served.connect() as connection:
        connection.send(chat("leashed", leash.prompt, stream=True))
        leash.wait_for_agent()
        for word in ("one", "two", "three"):
            leash.say(word)
            connection.until(f'"content":"{word}"'.encode())
        leash.say("")
        connection.until(b"data: [DONE]\n\n")


def test_usage_comes_only_when_asked_for_and_just_before_the_end(served: Served) -> None:  # 30
    assert all("usage" not in chunk for chunk in served.ask("usage", stream=True).chunks)
    *chunks, last = served.ask("usage", stream=True, stream_options={"include_usage": True}).chunks
    assert last["choices"] == []
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (3, 4)
    assert all(chunk["usage"] is None for chunk in chunks)


def test_silence_is_filled_with_comments(served: Served) -> None:  # 31
    with Leash() as leash, served.connect() as connection:
        connection.send(chat("leashed", leash.prompt, stream=True))
        leash.wait_for_agent()
        leash.say("one")
        connection.until(b'"content":"one"')
        for _ in range(3):
            connection.until(b": keep-alive\n\n")
        leash.say("")
        connection.until(b"data: [DONE]\n\n")


def test_a_plain_answer_is_strict_json(served: Served) -> None:  # 32
    answer = served.ask("echo", "ä\u2028")
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    parsed = json.loads(answer.body, parse_constant=pytest.fail)
    assert set(parsed) == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert set(parsed["choices"][0]) == {"index", "message", "logprobs", "finish_reason"}


def test_the_log_has_a_line_for_each_request_and_neither_prompts_nor_answers(served: Served) -> None:
    answer = served.ask("echo", "a very private question", stream=True)
    line = served.wait_for(answer.headers["x-request-id"]).string
    assert re.search(r" 200 echo +POST /v1/chat/completions ", line)
    assert "private" not in served.log
