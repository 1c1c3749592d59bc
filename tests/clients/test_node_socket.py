"""OpenAI's own JavaScript client over WebSocket (`ResponsesWS`, npm `ws`), over a real socket."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any

from openai_compat import AgentError, Server
from tests.clients.programs import HERE, need_node_packages
from tests.transports import uvicorn_socket


async def agent(messages: list[dict[str, Any]]) -> AsyncIterator[str]:
    if messages[-1]["content"] == "fail":
        raise AgentError("Not today.", status=409, code="not_today")
    yield "heard: "
    yield " / ".join([message["content"] for message in messages])


def test_one_connection_takes_turn_after_turn_in_lanes_and_survives_errors() -> None:
    need_node_packages()
    with uvicorn_socket(Server(agent, keys="sk-right")) as url:
        command = ["node", str(HERE / "socket_client.mjs"), f"{url}/v1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {name: said[name]["text"] for name in ("first", "second", "third")} == {
        "first": "heard: one",
        "second": "heard: one / heard: one / two",
        "third": "heard: three",
    }
    assert (said["first"]["lane"], said["second"]["lane"]) == (None, "a")
    assert (said["failed"]["type"], said["failed"]["error"]["code"]) == ("error", "not_today")
    assert "401" in said["refused"]
