"""The internals of uvicorn that `_serving` uses, by name: a version that changes any of them fails here, not at a client.

These classes are not made for subclassing, so uvicorn may change them in any version without notice. When a test fails:

1. Read what changed in uvicorn (`git log -p -- uvicorn/server.py uvicorn/protocols`), and `_serving` against it.
2. Run the tests that speak to a real server: tests/adapters, tests/api/chat_websocket, tests/api/responses.
3. Then record the check here: `LOOKED_AT`, and the digest that the failure shows; move the upper bound of
   uvicorn in pyproject.toml to the next minor version.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import inspect
import json
import re
import socket
import textwrap
import tomllib
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
import uvloop
from uvicorn.protocols.http import flow_control
from uvicorn.protocols.http.h11_impl import RequestResponseCycle as H11Cycle
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.asyncio.client import connect

from openai_compat import ChatWebSocket, Server
from openai_compat_adapters._corked_transport import CorkedTransport
from openai_compat_adapters._serving.http1 import CloseDelimitedCycle, ExpectedCycle, Http1Protocol
from openai_compat_adapters._serving.shutdown import Runner
from openai_compat_adapters._serving.websocket import WebSocketProtocol
from openai_compat_adapters.starlette import create_app
from tests.adapters.frames import frame, handshake
from tests.support.exchanges import ask

LOOKED_AT = "0.54.0"
"""The newest uvicorn version that `_serving` was checked against. 0.53 is the same in everything named here."""

SUBCLASSES: dict[type, type] = {
    Http1Protocol: HttpToolsProtocol,
    CloseDelimitedCycle: RequestResponseCycle,
    ExpectedCycle: RequestResponseCycle,
    WebSocketProtocol: WebSocketsSansIOProtocol,
    Runner: uvicorn.Server,
}

OVERRIDDEN: dict[type, dict[str, str]] = {
    Http1Protocol: {
        "__init__": "4f0899941034",
        "connection_made": "6efb565ff3d3",
        "connection_lost": "c91a4c9bf2e2",
        "data_received": "010a7ae59a5d",
        "handle_websocket_upgrade": "179c4f769386",
        "on_header": "65d62c044f61",
        "on_headers_complete": "1ea8589acfad",
        "on_body": "dba9c32aeba3",
        "on_message_complete": "1fbad42dc31f",
        "on_response_complete": "64e254f28e38",
        "shutdown": "d7351fa33f00",
        "pause_writing": "17a8fd215d96",
        "resume_writing": "7844bbaa8cce",
    },
    CloseDelimitedCycle: {"__init__": "4d2f220910c3", "send": "abdd8601b326"},
    ExpectedCycle: {"send": "abdd8601b326"},
    WebSocketProtocol: {
        "__init__": "631dcd744eab",
        "connection_made": "f533ec93747c",
        "connection_lost": "dd116afc4d80",
        "data_received": "c89d394077d8",
        "pause_writing": "4830f7e0d81f",
        "resume_writing": "ef79384e5fff",
        "handle_connect": "fc648c2161ff",
        "send": "d4919ed760ce",
        "handle_cont": "d96fe1479da6",
        "send_receive_event_to_app": "a2b10de91477",
        "handle_parser_exception": "ff5cf13c764f",
        "shutdown": "e8ace796ada6",
    },
    Runner: {
        "__init__": "c150b55284f7",
        "handle_exit": "553276efa26e",
        "serve": "112ef41af521",
        "shutdown": "9b33c5056299",
    },
}
"""The methods that ours override, with the digest of uvicorn's source."""

RELIED_ON: dict[Any, dict[str, str]] = {
    HttpToolsProtocol: {
        "on_message_begin": "96d377fdc7c2",
        "on_url": "37be44e962b0",
        "_should_upgrade": "8fcad1ab8e09",
        "_get_upgrade": "7b1305aac7b8",
        "_start_asgi_task": "9c08c2571ae9",
        "_unset_keepalive_if_required": "00a6a4e47214",
        "timeout_keep_alive_handler": "8b53bf5f2e20",
    },
    RequestResponseCycle: {
        "__init__": "4d2f220910c3",
        "run_asgi": "0f33f2449a44",
        "send": "abdd8601b326",
        "receive": "8124ae006be7",
    },
    WebSocketsSansIOProtocol: {
        "handle_events": "b2c9351a5d13",
        "handle_text": "6ae523180cf0",
        "handle_bytes": "2b22b21bf8fe",
        "handle_ping": "41bcf345d372",
        "handle_close": "62fd412b1f5b",
        "keepalive_timeout": "8e1ceb6ec446",
        "receive": "1dc0e7153900",
        "run_asgi": "662375aa38d9",
        "send_500_response": "47eba6fe24f5",
        "stop_keepalive": "bbb91b997b37",
    },
    uvicorn.Server: {
        "_serve": "4575b7a50adf",
        "startup": "2aa1d70a244b",
        "main_loop": "afccb353a119",
        "on_tick": "60ea49b06ccf",
        "_wait_tasks_to_complete": "17209be1e991",
        "capture_signals": "e1bbcd4770d1",
    },
    flow_control.FlowControl: {"pause_writing": "93d4a08a9f2d", "resume_writing": "a343e8b0baf0"},
}
"""The methods that call ours, or change the same attributes, likewise."""

ATTRIBUTES: dict[type, set[str]] = {
    Http1Protocol: {
        "access_log",
        "access_logger",
        "app",
        "cycle",
        "flow",
        "headers",
        "logger",
        "loop",
        "parser",
        "scope",
        "server_state",
        "transport",
        "url",
        "_should_upgrade",
        "_start_asgi_task",
        "_unset_keepalive_if_required",
    },
    CloseDelimitedCycle: {"chunked_encoding", "expected_content_length"},
    ExpectedCycle: {"keep_alive", "waiting_for_100_continue"},
    WebSocketProtocol: {
        "close_sent",
        "close_timer",
        "conn",
        "curr_msg_data_type",
        "frames",
        "handshake_complete",
        "handshake_initiated",
        "loop",
        "queue",
        "read_paused",
        "stop_keepalive",
        "transport",
        "writable",
    },
    Runner: {"server_state", "should_exit"},
}
"""The attributes of uvicorn's classes that ours read or set on `self`."""

ATTRIBUTES_OF_OTHERS: dict[type, set[str]] = {
    RequestResponseCycle: {"more_body", "response_complete", "response_started", "waiting_for_100_continue"},
    ServerState: {"connections", "default_headers"},
    HttpToolsProtocol: {"transport"},  # of each connection, when the process ends
    WebSocketsSansIOProtocol: {"transport"},
}

ADVICE = "See the head of tests/adapters/test_serving_contract.py for what to do."


def digest(cls: type, name: str) -> str:
    """A hash of a method's source in its file: libraries (sse-starlette) replace methods of uvicorn when imported."""
    lines = Path(inspect.getfile(cls)).read_text("utf-8").splitlines(keepends=True)
    for node in ast.walk(ast.parse("".join(lines))):
        if isinstance(node, ast.ClassDef) and node.name == cls.__name__:
            for method in node.body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.name == name:
                    first = min([method.lineno, *[decorator.lineno for decorator in method.decorator_list]])
                    text = "".join(lines[first - 1 : method.end_lineno])
                    return hashlib.sha256(text.encode()).hexdigest()[:12]
    return "gone"


def tree(cls: type) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(cls)))


def on_self(cls: type, *contexts: type[ast.expr_context]) -> set[str]:
    """The attributes that the methods of a class read (ast.Load) or set (ast.Store) on `self`."""
    return {
        node.attr
        for node in ast.walk(tree(cls))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and isinstance(node.ctx, contexts)
    }


def had(cls: type) -> set[str]:
    return on_self(cls, ast.Store) | {name for name in vars(cls) if not name.startswith("__")}


def changes(cls: Any, digests: dict[str, str]) -> list[str]:
    """The methods whose source has changed since it was checked."""
    found = {name: digest(cls, name) for name in digests}
    return [
        f"{cls.__name__}.{name}: {found[name]}, not {digests[name]}" for name in digests if found[name] != digests[name]
    ]


def release(text: str) -> tuple[int, ...]:
    return tuple([int(part) for part in re.findall(r"\d+", text)[:3]])


@pytest.mark.parametrize("ours", SUBCLASSES, ids=lambda cls: cls.__name__)
def test_the_methods_that_are_overridden_are_named_and_are_as_they_were_looked_at(ours: type) -> None:
    theirs = SUBCLASSES[ours]
    overridden = {name for name in vars(ours) if name in vars(theirs) and (name == "__init__" or name[:2] != "__")}
    assert overridden == OVERRIDDEN[ours].keys(), "name here all methods of uvicorn's that are overridden"
    changed = changes(theirs, OVERRIDDEN[ours])
    assert not changed, f"uvicorn {version('uvicorn')} differs from {LOOKED_AT}: {changed}. {ADVICE}"


@pytest.mark.parametrize("theirs", RELIED_ON, ids=lambda cls: cls.__name__)
def test_the_methods_that_call_ours_are_as_they_were_looked_at(theirs: type) -> None:
    changed = changes(theirs, RELIED_ON[theirs])
    assert not changed, f"uvicorn {version('uvicorn')} differs from {LOOKED_AT}: {changed}. {ADVICE}"


@pytest.mark.parametrize("ours", SUBCLASSES, ids=lambda cls: cls.__name__)
def test_the_attributes_of_uvicorns_that_are_touched_are_named_and_are_there(ours: type) -> None:
    theirs = SUBCLASSES[ours]
    inherited = had(theirs)
    own = {name for name in had(ours) if name not in inherited}
    touched = on_self(ours, ast.Load, ast.Store) - own - OVERRIDDEN[ours].keys()
    assert touched == ATTRIBUTES[ours], "name here all attributes of uvicorn's that are touched"
    assert touched <= inherited, f"uvicorn {version('uvicorn')} has no {sorted(touched - inherited)}. {ADVICE}"


@pytest.mark.parametrize("theirs", ATTRIBUTES_OF_OTHERS, ids=lambda cls: cls.__name__)
def test_the_attributes_of_what_uvicorn_hands_over_are_there(theirs: type) -> None:
    missing = ATTRIBUTES_OF_OTHERS[theirs] - had(theirs)
    assert not missing, f"{theirs.__name__} of uvicorn {version('uvicorn')} has no {sorted(missing)}. {ADVICE}"


def test_no_newer_version_of_uvicorn_is_allowed_than_the_one_that_was_looked_at() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (required,) = [text for text in project["optional-dependencies"]["serve"] if text.startswith("uvicorn")]
    major, minor, _ = release(LOOKED_AT)
    assert required == f"uvicorn>=0.53,<{major}.{minor + 1}", f"the bound has moved. {ADVICE}"
    assert release(version("uvicorn")) <= release(LOOKED_AT), f"read `_serving` against this uvicorn first. {ADVICE}"


# streams are written without waiting if uvicorn's transport has room: `openai_compat_adapters.starlette`


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_uvicorn_tells_whether_its_transport_has_room_and_waits_for_nothing_else(http: Any, loop: Any) -> None:
    """`_AsgiCall` reads `send.__self__.flow.write_paused`; if that is false, `Exchange` runs `send` by hand."""
    seen: list[bool] = []

    async def paced(prompt: str) -> AsyncIterator[str]:
        for _ in range(50):
            await asyncio.sleep(0.001)
            yield "token "

    app = create_app(Server(paced))

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append(not send.__self__.flow.write_paused)
        await app(scope, receive, send)

    async def main() -> str:
        server = uvicorn.Server(uvicorn.Config(watched, port=0, http=http, loop=loop, log_level="error"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0)
        (port,) = [sock.getsockname()[1] for each in server.servers for sock in each.sockets]
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            answer = await client.post("/v1/chat/completions", json=ask(stream=True))
        server.should_exit = True
        await serving
        return answer.text

    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None)
    with runner:
        text = runner.run(main())
    assert text.count("token ") == 50
    assert text.endswith("data: [DONE]\n\n")
    assert seen == [True]


@pytest.mark.parametrize("theirs", [H11Cycle, RequestResponseCycle], ids=["h11", "httptools"])
def test_uvicorns_send_waits_for_room_and_for_nothing_else(theirs: Any) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(theirs.send)))
    waits = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Await)]
    assert waits == ["await self.flow.drain()"], f"`_AsgiCall` runs `send` by hand. {ADVICE}"


# consecutive frames are one write: `openai_compat_adapters._asgi_channel`


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_frames_over_uvicorns_websocket_are_joined_come_in_order_and_wait_for_a_client_that_reads_nothing(
    ws: Any, loop: Any
) -> None:
    """`_cork` replaces `send.__self__.transport`."""
    protocols: list[Any] = []
    said = 0

    async def burst(prompt: str) -> AsyncIterator[str]:
        nonlocal said
        for said in range(1, int(prompt) + 1):  # noqa: B007  (how far it came is looked at from outside)
            yield "token " * 100

    app = create_app(Server(burst, chat_websocket=ChatWebSocket(grace=0)))

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            protocols.append(send.__self__)
        await app(scope, receive, send)

    async def main() -> list[dict[str, Any]]:
        server = uvicorn.Server(uvicorn.Config(watched, port=0, ws=ws, loop=loop, log_level="error"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0)
        (port,) = [sock.getsockname()[1] for each in server.servers for sock in each.sockets]
        received: list[dict[str, Any]] = []
        async with connect(f"ws://127.0.0.1:{port}/chat") as client:
            await client.send(json.dumps({"role": "user", "content": "500"}))
            while not received or received[-1]["type"] != "message":
                received.append(json.loads(await client.recv()))
        with socket.socket() as client:  # never reads: its buffers and the server's fill up
            client.setblocking(False)
            event_loop = asyncio.get_running_loop()
            await event_loop.sock_connect(client, ("127.0.0.1", port))
            await event_loop.sock_sendall(client, handshake(path="/chat"))
            assert (await event_loop.sock_recv(client, 1000)).startswith(b"HTTP/1.1 101 ")
            await event_loop.sock_sendall(client, frame(json.dumps({"role": "user", "content": "1000000"}).encode()))
            while len(protocols) < 2 or protocols[1].writable.is_set():
                await asyncio.sleep(0)
        server.should_exit = True
        await serving
        return received

    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None)
    with runner:
        received = runner.run(main())
    numbered = [each["chat_seq"] for each in received if "chat_seq" in each]
    assert numbered == list(range(1, len(numbered) + 1))
    assert received[-1]["content"] == "token " * 100 * 500
    assert 500 < said < 1_000_000
    assert [type(protocol.transport) for protocol in protocols] == [CorkedTransport] * 2
