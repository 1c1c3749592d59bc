"""A server whose callers change data that outlives its process: `python -m tests.state.kept_host`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from openai_compat import (
    AgentRequest,
    Budget,
    ChatRest,
    Conversations,
    Deadlines,
    Rates,
    Server,
    ToolCallReady,
    UsageReported,
)
from openai_compat.messages import ToolMessage
from openai_compat.providers import Providers
from openai_compat.tools import AskLater, ToolLoop
from openai_compat_adapters.serve import listen, serve
from tests.state.host import leashed

BUDGET = Budget(100_000, per="month")
RATES = Rates(tokens_per_minute=0.06, token_burst=100_000)
"""One token per 1000 s: none is regained while a test runs."""


async def metered(prompt: str, messages: list[dict[str, Any]]) -> AsyncIterator[Any]:
    """Reports 100 tokens, and is then controlled over a leash."""
    yield UsageReported(60, 40)
    async for text in leashed(prompt, messages):
        yield text


async def wants_bread(request: AgentRequest) -> AsyncIterator[Any]:
    """A model that buys bread."""
    if isinstance(request.messages[-1], ToolMessage):
        yield "You have bread now."
    else:
        yield ToolCallReady("call_1", "buy", '{"what": "bread"}')


def buy(what: str) -> str:
    """Buys something."""
    return f"bought {what}"


def main() -> None:
    providers = Providers()
    agents = {
        "leashed": leashed,
        "metered": metered,
        "echoing": lambda prompt: prompt,
        "shopper": ToolLoop(wants_bread, [buy], approver=AskLater()),
        "provided": providers.backend("openai/m"),
    }
    server = Server(
        agents,
        store=os.environ["STORE"],
        providers=providers,
        chat_rest=ChatRest(admins=frozenset(["anonymous"])),
        conversations=Conversations(busy="supersede", queue=30.0),
        deadlines=Deadlines(lease=float(os.environ["LEASE"])),
        budgets=BUDGET,
        rates=RATES,
    )
    listener = listen(server, "127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    serve(server, listener, grace=5.0)


if __name__ == "__main__":
    main()
