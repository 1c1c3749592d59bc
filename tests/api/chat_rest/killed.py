"""A shop that is served in its own process, configured by its environment."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from openai_compat import AgentRequest, Capabilities, ChatRest, RunContext, Server, ToolCallReady
from openai_compat.messages import ToolMessage
from openai_compat.tools import AskLater, ToolLoop


class Buyer:
    """Buys bread, and says so when it has it."""

    capabilities = Capabilities()

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        """One answer of the model."""
        last = request.messages[-1]
        if isinstance(last, ToolMessage):
            yield f"Now: {last.text}."
        else:
            yield ToolCallReady("call_1", "buy", '{"what": "bread"}')


def buy(what: str) -> str:
    """Buys something."""
    with Path(os.environ["TRACE"]).open("a") as trace:
        trace.write(f"{what}\n")
    return f"bought {what}"


if "STORE" in os.environ:
    server = Server(
        {"shop": ToolLoop(Buyer(), [buy], approver=AskLater())}, store=os.environ["STORE"], chat_rest=ChatRest()
    )
