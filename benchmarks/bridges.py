"""CPU time that a framework's backend adds to each piece of text: `python benchmarks/bridges.py pydantic_ai …`.

The test double of `tests/frameworks` says PIECES pieces. It runs alternately in the framework alone, with its events iterated
by hand, and in the backend. Prints this process's microseconds per piece: the best of several rounds of each, and the
difference. Run it in an environment that has the framework (`nox -s frameworks` makes one for each in `.nox/frameworks`).
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).parent.parent))

from starlette.concurrency import iterate_in_threadpool

from openai_compat import RunContext, as_backend
from openai_compat.wire.chat.parse import parse_chat
from tests.frameworks.model import Model, Say, Seen

PIECES, ROUNDS, WANTED = 500, 7, 15.0
PROMPT = "hi"

Iterate: TypeAlias = Callable[[Any], AsyncIterator[Any]]


class Talks(Model):
    """Says the pieces, whatever its input."""

    async def answer(self, seen: Seen) -> AsyncIterator[Any]:
        """Yield the pieces."""
        for _ in range(PIECES):
            yield Say("token ")


async def a2a(url: str) -> AsyncIterator[Any]:
    """Events from a remote agent."""
    client, helpers, types = _modules("a2a.client", "a2a.helpers", "a2a.types")
    httpx: Any = importlib.import_module("httpx")
    async with httpx.AsyncClient() as http:
        card = await client.A2ACardResolver(http, url).get_agent_card()
        remote = client.ClientFactory(client.ClientConfig(httpx_client=http)).create(card)
        message = helpers.new_text_message(PROMPT, role=types.Role.ROLE_USER)
        async for response in remote.send_message(types.SendMessageRequest(message=message)):
            yield response


async def acp(command: list[str]) -> AsyncIterator[Any]:
    """Updates from an agent program."""
    [sdk] = _modules("acp")
    said: list[Any] = []

    class Client:
        async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
            said.append(update)

        def on_connect(self, agent: Any) -> None:
            """Required by the SDK."""

    async with sdk.spawn_agent_process(Client(), *command) as (agent, _):
        await agent.initialize(protocol_version=sdk.PROTOCOL_VERSION)
        session = await agent.new_session(cwd=str(Path.cwd()), mcp_servers=[])
        await agent.prompt(prompt=[sdk.text_block(PROMPT)], session_id=session.session_id)
    for update in said:
        yield update


async def agent_framework(agent: Any) -> AsyncIterator[Any]:
    """Updates of an Agent Framework agent."""
    async for update in agent.run(PROMPT, stream=True):
        yield update


async def agno(agent: Any) -> AsyncIterator[Any]:
    """Events of an Agno agent."""
    async for event in agent.arun(PROMPT, stream=True, stream_events=True):
        yield event


async def claude_agent_sdk(options: Any) -> AsyncIterator[Any]:
    """Messages of the Claude Agent SDK, with the model's events."""
    [sdk] = _modules("claude_agent_sdk")
    options.include_partial_messages = True
    async for message in sdk.query(prompt=PROMPT, options=options):
        yield message


async def google_adk(agent: Any) -> AsyncIterator[Any]:
    """Events of a Google ADK agent."""
    config, runners, types = _modules("google.adk.agents.run_config", "google.adk.runners", "google.genai.types")
    runner = runners.InMemoryRunner(agent, app_name="talks")
    session = await runner.session_service.create_session(app_name="talks", user_id="u")
    async for event in runner.run_async(
        user_id="u",
        session_id=session.id,
        new_message=types.UserContent(PROMPT),
        run_config=config.RunConfig(streaming_mode=config.StreamingMode.SSE),
    ):
        yield event


async def haystack(agent: Any) -> AsyncIterator[Any]:
    """Chunks of a Haystack agent."""
    [data] = _modules("haystack.dataclasses")
    said: list[Any] = []

    async def heard(chunk: Any) -> None:
        said.append(chunk)

    await agent.run_async([data.ChatMessage.from_user(PROMPT)], heard)
    for chunk in said:
        yield chunk


async def langgraph(graph: Any) -> AsyncIterator[Any]:
    """Messages of a LangGraph graph, and the node updates, which a server needs as well."""
    thread = {"configurable": {"thread_id": str(uuid4())}}
    given = {"messages": [("user", PROMPT)]}
    async for part in graph.astream(given, thread, stream_mode=["messages", "updates"], subgraphs=True):
        yield part


async def llama_index(agent: Any) -> AsyncIterator[Any]:
    """Events of a LlamaIndex agent."""
    handler = agent.run(user_msg=PROMPT)
    async for event in handler.stream_events():
        yield event
    await handler


async def openai_agents(agent: Any) -> AsyncIterator[Any]:
    """Events of the OpenAI Agents SDK."""
    [sdk] = _modules("agents")
    async for event in sdk.Runner.run_streamed(agent, PROMPT).stream_events():
        yield event


async def pydantic_ai(agent: Any) -> AsyncIterator[Any]:
    """Events of a Pydantic AI agent."""
    async with agent.run_stream_events(PROMPT) as events:
        async for event in events:
            yield event


async def smolagents(make: Any) -> AsyncIterator[Any]:
    """Deltas of a smolagents agent, iterated in a thread as FastAPI would stream a blocking framework."""
    [loggers] = _modules("smolagents.monitoring")
    agent = make()
    agent.stream_outputs, agent.logger = True, loggers.AgentLogger(loggers.LogLevel.OFF)
    async for item in iterate_in_threadpool(agent.run(PROMPT, stream=True)):
        yield item


async def strands(make: Any) -> AsyncIterator[Any]:
    """Events of a Strands agent."""
    async for event in make().stream_async(PROMPT):
        yield event


BY_HAND: dict[str, Iterate] = {
    made.__name__: made
    for made in (
        a2a,
        acp,
        agent_framework,
        agno,
        claude_agent_sdk,
        google_adk,
        haystack,
        langgraph,
        llama_index,
        openai_agents,
        pydantic_ai,
        smolagents,
        strands,
    )
}
"""Each framework's own events, without openai-compat."""


def _modules(*names: str) -> list[Any]:
    return [importlib.import_module(name) for name in names]


def agents_of(name: str) -> tuple[Any, Any]:
    """The agent to serve, and the one to run by hand."""
    module: Any = importlib.import_module(f"tests.frameworks.{name}")
    model = Talks()
    agent = module.agents(model)["instructed"]
    if name == "a2a":
        return agent, module.serve(module.Remote(model), streams=True)
    if name == "acp":
        return agent, [*module.programs(model), "instructed"]
    return agent, agent


async def microseconds(events: AsyncIterator[Any]) -> float:
    """CPU time per piece."""
    began, pieces = time.process_time(), 0
    async for _ in events:
        pieces += 1
    assert pieces >= PIECES
    return (time.process_time() - began) / PIECES * 1e6


async def main(name: str) -> None:
    agent, handed = agents_of(name)
    began = time.process_time()
    backend = as_backend(agent)
    recognised = (time.process_time() - began) * 1000
    request = parse_chat(f'{{"model": "a", "messages": [{{"role": "user", "content": "{PROMPT}"}}]}}'.encode()).request

    def by_backend() -> AsyncIterator[Any]:
        return backend.run(request, RunContext("t", "r", time.monotonic() + 60, logging.getLogger(name)))

    rounds = [(await microseconds(BY_HAND[name](handed)), await microseconds(by_backend())) for _ in range(ROUNDS)]
    alone, bridged = (min(column) for column in zip(*rounds, strict=True))
    verdict = "reached" if bridged - alone <= WANTED else "MISSED"
    print(
        f"{name}: {alone:.1f} by hand, {bridged:.1f} by the backend: {bridged - alone:+.1f} µs (≤ {WANTED:g}: {verdict})"
    )
    print(f"{name}: recognised, and its backend imported, in {recognised:.1f} ms of CPU")


if __name__ == "__main__":
    if not sys.argv[1:] or not BY_HAND.keys() >= set(sys.argv[1:]):
        sys.exit(f"usage: {sys.argv[0]} FRAMEWORK …, of: {', '.join(BY_HAND)}")
    for wanted in sys.argv[1:]:
        asyncio.run(main(wanted))
