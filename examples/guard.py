"""A guard around every agent, in every API: it refuses requests, and holds text back until it is checked.

uvicorn guard:app
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from openai_compat import (
    AgentBackend,
    AgentError,
    AgentEvent,
    AgentRequest,
    Capabilities,
    ChatRest,
    ChatWebSocket,
    Finished,
    RunContext,
    Server,
    TextDelta,
)
from openai_compat_adapters.starlette import create_app

HELD = 200
"""Maximum number of characters held back until a sentence ends."""


async def moderate(text: str) -> bool:
    """Return True if the text may pass. Call a model or a service here."""
    return "forbidden" not in text.lower()


class Guard:
    """A backend that moderates the user's prompt, and the agent's output sentence by sentence."""

    def __init__(self, inner: AgentBackend) -> None:
        self._inner = inner

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        if not await moderate(request.prompt):
            raise AgentError("This cannot be asked here.", status=400, code="content_policy_violation")
        held: list[str | TextDelta] = []
        inner: Any = self._inner.run(request, context)
        async with aclosing(inner) as events:
            async for event in events:
                is_text = isinstance(event, str | TextDelta)
                if is_text:
                    held.append(event)
                if not is_text or _ends(held):  # no event overtakes held text
                    if not await moderate(_text(held)):
                        yield Finished("content_filter")
                        return
                    for checked in held:
                        yield checked
                    held = []
                    if not is_text:
                        yield event
        if not await moderate(_text(held)):
            yield Finished("content_filter")
            return
        for checked in held:
            yield checked


def _text(held: list[str | TextDelta]) -> str:
    return "".join([piece if isinstance(piece, str) else piece.text for piece in held])


def _ends(held: list[str | TextDelta]) -> bool:
    text = _text(held)
    return len(text) > HELD or text.rstrip().endswith((".", "!", "?"))


async def agent(prompt: str) -> AsyncIterator[str]:
    for word in f"You said {prompt}. That is fine. This is".split():
        yield f"{word} "
    for piece in ("for", "bid", "den."):
        yield piece


def guarded(backend: AgentBackend, name: str) -> AgentBackend:
    return Guard(backend)


server = Server(agent, wrap=[guarded], chat_rest=ChatRest(), chat_websocket=ChatWebSocket())
app = create_app(server)
