"""Agents that say what a test tells them to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from openai_compat import AgentEvent, AgentRequest, Capabilities, RunContext

EVERYTHING = Capabilities(audio_output=True, logprobs=True, web_search=True, prediction=True)
PROMPT_ONLY = Capabilities(
    history="last_user", client_tools=False, vision=False, audio_input=False, files=False, structured_output=False
)

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


class Says:
    """Says `items` in every turn; an exception among them is raised. Keeps the requests it was given."""

    def __init__(self, *items: AgentEvent | str | BaseException, can: Capabilities = EVERYTHING) -> None:
        self.capabilities = can
        self.requests: list[AgentRequest] = []
        self._items = items

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        self.requests.append(request)
        for item in self._items:
            if isinstance(item, BaseException):
                raise item
            yield item

    @property
    def request(self) -> AgentRequest:
        """The one request it was given."""
        (request,) = self.requests
        return request
