"""Servers for `openai-compat serve` with a chat WebSocket."""

from __future__ import annotations

import sys
from pathlib import Path

from openai_compat import ChatWebSocket, Deadlines, Limits, Server

sys.path.insert(0, str(Path(__file__).parents[2] / "adapters"))

from served_agents import agents

LIMIT = 100_000
server = Server(agents, chat_websocket=ChatWebSocket(grace=0), limits=Limits(body=LIMIT))
keyed = Server(agents, keys="a-key-of-its-own", chat_websocket=ChatWebSocket(grace=0))
patient = Server(agents, chat_websocket=ChatWebSocket())
impatient = Server(agents, chat_websocket=ChatWebSocket(grace=0), deadlines=Deadlines(write=1))
