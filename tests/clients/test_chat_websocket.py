"""The chat WebSocket and its clients over a real socket: npm `ws`, Python's `websockets`, and NodeTool's own example."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import websockets
from websockets.asyncio.client import connect

from openai_compat import AgentError, AgentRequest, ChatWebSocket, Server, ToolCallReady
from tests.clients.programs import HERE, need_node_packages
from tests.transports import uvicorn_socket

NODETOOL_CHAT = """\
const socket = new WebSocket("ws://localhost:8000/chat?api_key=YOUR_KEY");

// Send a chat message
const message = {
  role: "user",
  content: "Hello world",
  model: "gpt-3.5-turbo" // or any supported model
};

socket.onmessage = async (event) => {
  const data = msgpack.decode(new Uint8Array(await event.data.arrayBuffer()));
  if (data.type === "chunk") {
    console.log(data.content);
  }
};

socket.onopen = () => {
  socket.send(msgpack.encode(message));
};
"""
"""From NodeTool's documentation ("WebSocket Example usage")."""

AROUND = """\
import * as msgpack from '@msgpack/msgpack';
{program}
socket.addEventListener('message', async (event) => {{
  const data = msgpack.decode(new Uint8Array(await event.data.arrayBuffer()));
  if (data.type === 'message') process.exit(0);
}});
"""


async def agent(request: AgentRequest) -> AsyncIterator[Any]:
    if request.resume is not None:
        yield "You are in " + json.loads(request.resume.results["call_1"].text)["city"]
    elif request.prompt == "where":
        yield ToolCallReady("call_1", "where", "{}")
    elif request.prompt == "fail":
        raise AgentError("Not today.", status=409, code="not_today")
    elif request.prompt == "wait":
        yield "waiting"
        await asyncio.Event().wait()
    else:
        yield "heard: "
        yield " / ".join([m.text for m in request.messages if hasattr(m, "parts")])


def served() -> Any:
    return uvicorn_socket(
        Server({"gpt-3.5-turbo": agent}, keys=["sk-right", "YOUR_KEY"], chat_websocket=ChatWebSocket())
    )


def node(*arguments: str) -> str:
    command = ["node", "--experimental-websocket", *arguments]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nodetools_own_example_runs_as_written() -> None:
    need_node_packages()
    with served() as url:
        assert "ws://localhost:8000" in NODETOOL_CHAT
        program = NODETOOL_CHAT.replace("ws://localhost:8000", url.replace("http://", "ws://"))
        said = node("--input-type=module", "-e", AROUND.format(program=program))
    assert said.splitlines() == ["heard: ", "Hello world", ""]


def test_npm_ws_in_both_encodings() -> None:
    need_node_packages()
    with served() as url:
        said = json.loads(node("chat_client.mjs", url.replace("http://", "ws://") + "/chat"))
    assert (said["first"], said["second"]) == ("heard: one", "heard: one / heard: one / two")
    assert said["encodings"] == [False, True]
    assert (said["failed"], said["found"]) == ("not_today", "You are in Lisbon")
    assert (said["resumed"]["status"], said["resumed"]["replay_incomplete"]) == ("running", False)
    assert (said["stopped"]["type"], said["stopped"]["thread_id"]) == ("generation_stopped", "gone")
    assert "401" in said["refused"]


def test_pythons_websockets_in_both_encodings() -> None:
    async def turns(url: str) -> list[str]:
        said: list[str] = []
        headers = {"Authorization": "Bearer sk-right"}
        async with asyncio.timeout(20), connect(f"{url}/chat", additional_headers=headers) as websocket:
            for binary in (False, True):
                body = {"role": "user", "content": f"binary: {binary}", "thread_id": str(binary)}
                await websocket.send(msgpack.packb(body) if binary else json.dumps(body))
                async for frame in websocket:
                    assert isinstance(frame, bytes) is binary
                    fields = msgpack.unpackb(frame) if isinstance(frame, bytes) else json.loads(frame)
                    if fields["type"] == "message":
                        said.append(fields["content"])
                        break
        return said

    async def refused(url: str) -> int:
        try:
            async with connect(f"{url}/chat?api_key=wrong"):
                return 101
        except websockets.InvalidStatus as error:
            return error.response.status_code

    with served() as url:
        url = url.replace("http://", "ws://")
        assert asyncio.run(turns(url)) == ["heard: binary: False", "heard: binary: True"]
        assert asyncio.run(refused(url)) == 401
