"""Agents with scripted output."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio.lowlevel

from openai_compat import AgentEvent, AgentRequest, Capabilities, RunContext

EVERYTHING = Capabilities(audio_output=True, logprobs=True, web_search=True, prediction=True)
PROMPT_ONLY = Capabilities(
    history="last_user", client_tools=False, vision=False, audio_input=False, files=False, structured_output=False
)

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


class Says:
    """Yields `items` in every turn, raising the exceptions among them, and records its requests.

    `paced` gives the reader time to consume each item alone; otherwise several may be read together.
    """

    def __init__(
        self, *items: AgentEvent | str | BaseException, can: Capabilities = EVERYTHING, paced: bool = False
    ) -> None:
        self.capabilities = can
        self._paced = paced
        self.requests: list[AgentRequest] = []
        self._items = items

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        self.requests.append(request)
        for item in self._items:
            if isinstance(item, BaseException):
                raise item
            yield item
            for _ in range(20 if self._paced else 0):
                await anyio.lowlevel.checkpoint()

    @property
    def request(self) -> AgentRequest:
        """The only request that the agent got."""
        (request,) = self.requests
        return request
