"""docker-agent's profile: a team of two agents that keeps conversations. Words in the prompt script it."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio

from openai_compat import AgentRequest, Conversations, Limits, MemoryStore, Server

MIB = 1024 * 1024


class Team:
    """`root` knows the name given earlier in the conversation; `reviewer` is another model."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.stopped = threading.Event()
        self.histories: list[list[str]] = []

    async def root(self, request: AgentRequest) -> AsyncIterator[str]:
        self.histories.append([str(message["content"]) for message in request.raw_messages])
        if "fail" in request.prompt:
            raise RuntimeError("the model returned an error")
        if "wait" in request.prompt:
            yield "waiting "
            await self._wait()
        said = " ".join([message.text for message in request.messages])
        name = re.search(r"my name is (\w+)", said)
        yield f"Your name is {name[1]}." if name else "I do not know your name."

    async def _wait(self) -> None:
        try:
            while not self.go_on.is_set():
                await anyio.sleep(0.005)
        finally:
            self.stopped.set()

    async def reviewer(self, prompt: str) -> str:
        return f"Looks good: {prompt}"

    @property
    def agents(self) -> dict[str, Any]:
        return {"root": self.root, "reviewer": self.reviewer}


def profile(team: Team, **settings: Any) -> Server:
    """`docker agent serve chat team.yaml --conversations-max 100 --conversation-ttl 30m`."""
    defaults = {
        "conversations": Conversations(),
        "store": MemoryStore(max_items=100, ttl=30 * 60),
        "unknown_model": "default",
        "owned_by": "docker-agent",
    }
    return Server(team.agents, limits=Limits(body=MIB), **{**defaults, **settings})


root = Server({"root": Team().root}, limits=Limits(body=MIB), owned_by="docker-agent")
"""`docker agent serve chat agent.yaml`."""

server = profile(Team())

agents = Team().agents
"""The team itself, to be served with the command line's own flags."""
