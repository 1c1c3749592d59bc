"""CPU time that a framework's backend adds to each piece of text: `python benchmarks/bridges.py [pydantic_ai …]`.

A model that says PIECES pieces is run by the framework alone, its events iterated by hand, and then by the backend, in turns.
Prints microseconds for a piece: the best of several rounds of each, and the difference. Run it in an environment that has the
framework (`nox -s frameworks` makes one for each in `.nox/frameworks`).
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

from openai_compat import RunContext, as_backend
from openai_compat.wire.chat.parse import parse_chat

PIECES, ROUNDS, WANTED = 2_000, 7, 15.0

Iterate: TypeAlias = Callable[[], AsyncIterator[Any]]


def pydantic_ai() -> tuple[Any, Iterate]:
    """An agent, and its events by hand."""
    ai: Any = importlib.import_module("pydantic_ai")
    function: Any = importlib.import_module("pydantic_ai.models.function")

    async def stream(messages: Any, info: Any) -> AsyncIterator[str]:
        for _ in range(PIECES):
            yield "token "

    agent = ai.Agent(function.FunctionModel(stream_function=stream))

    async def by_hand() -> AsyncIterator[Any]:
        async with agent.run_stream_events("hi") as events:
            async for event in events:
                yield event

    return agent, by_hand


def langgraph() -> tuple[Any, Iterate]:
    """A graph, and its messages by hand."""
    models: Any = importlib.import_module("langchain_core.language_models")
    messages: Any = importlib.import_module("langchain_core.messages")
    outputs: Any = importlib.import_module("langchain_core.outputs")
    graphs: Any = importlib.import_module("langgraph.graph")

    class Talks(models.BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "talks"

        def _generate(self, *args: Any, **more: Any) -> Any:
            raise NotImplementedError

        async def _astream(self, *args: Any, run_manager: Any = None, **more: Any) -> AsyncIterator[Any]:
            for _ in range(PIECES):
                chunk = outputs.ChatGenerationChunk(message=messages.AIMessageChunk(content="token "))
                if run_manager is not None:
                    await run_manager.on_llm_new_token("token ", chunk=chunk)
                yield chunk

    async def answer(state: Any) -> Any:
        return {"messages": [await Talks().ainvoke(state["messages"])]}

    graph = graphs.StateGraph(graphs.MessagesState).add_node("answer", answer).add_edge("__start__", "answer").compile()

    async def by_hand() -> AsyncIterator[Any]:
        given = {"messages": [("user", "hi")]}
        # What a server needs of it as well: what a node has changed, besides the pieces.
        async for part in graph.astream(given, stream_mode=["messages", "updates"], subgraphs=True):
            yield part

    return graph, by_hand


def openai_agents() -> tuple[Any, Iterate]:
    """An agent, and its events by hand."""
    agents: Any = importlib.import_module("agents")
    testing: Any = importlib.import_module("agents.testing")
    types: Any = importlib.import_module("openai.types.responses")
    agents.set_tracing_disabled(True)

    class Talks(testing.ScriptedModel):
        async def stream_response(self, *args: Any, **more: Any) -> AsyncIterator[Any]:
            for number in range(PIECES):
                yield types.ResponseTextDeltaEvent(
                    content_index=0,
                    delta="token ",
                    item_id="msg_1",
                    logprobs=[],
                    output_index=0,
                    sequence_number=number,
                    type="response.output_text.delta",
                )
            last: Any = super()
            async for event in last.stream_response(*args, **more):
                yield event

    def made() -> Any:
        return agents.Agent(name="talks", model=Talks([[testing.assistant_message("done")]] * 1000))

    agent = made()

    async def by_hand() -> AsyncIterator[Any]:
        async for event in agents.Runner.run_streamed(agent, "hi").stream_events():
            yield event

    return agent, by_hand


FRAMEWORKS = {made.__name__: made for made in (pydantic_ai, langgraph, openai_agents)}


async def microseconds(iterate: Iterate) -> float:
    """CPU time of one piece."""
    began, pieces = time.process_time(), 0
    async for _ in iterate():
        pieces += 1
    assert pieces >= PIECES
    return (time.process_time() - began) / PIECES * 1e6


async def main(name: str) -> None:
    agent, by_hand = FRAMEWORKS[name]()
    began = time.process_time()
    backend = as_backend(agent)
    recognised = (time.process_time() - began) * 1000
    request = parse_chat(b'{"model": "a", "messages": [{"role": "user", "content": "hi"}]}').request

    def by_backend() -> AsyncIterator[Any]:
        return backend.run(request, RunContext("t", "r", time.monotonic() + 60, logging.getLogger(name)))

    rounds = [(await microseconds(by_hand), await microseconds(by_backend)) for _ in range(ROUNDS)]
    alone, bridged = (min(column) for column in zip(*rounds, strict=True))
    verdict = "reached" if bridged - alone <= WANTED else "MISSED"
    print(
        f"{name}: {alone:.1f} by hand, {bridged:.1f} by the backend: {bridged - alone:+.1f} µs (≤ {WANTED:g}: {verdict})"
    )
    print(f"{name}: recognised, and its backend imported, in {recognised:.1f} ms of CPU")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or [name for name in FRAMEWORKS if importlib.util.find_spec(name)]:
        asyncio.run(main(wanted))
