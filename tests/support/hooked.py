"""A hook that records its calls, and a request to each API whose agent ends as requested."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio

from openai_compat import ChatRest, ChatWebSocket, Hooks, PendingCall, RunContext, Server, TurnInfo, TurnOutcome
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.api.ollama import Ollama
from openai_compat.errors import AgentError
from openai_compat.events import AgentEvent, Paused, UsageReported
from tests.api.chat_websocket.client import chat
from tests.support.exchanges import Recorder, answer, request

PATIENCE = 10

HTTP_APIS: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "chat": ("/v1/chat/completions", lambda text: {"messages": [{"role": "user", "content": text}]}),
    "completions": ("/v1/completions", lambda text: {"prompt": text}),
    "responses": ("/v1/responses", lambda text: {"input": text}),
    "chat_rest": ("/api/chat/completions", lambda text: {"messages": [{"role": "user", "content": text}]}),
}
APIS = (*HTTP_APIS, "chat_websocket")

ANTHROPIC: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "anthropic_messages": (
        "/v1/messages",
        lambda text: {"max_tokens": 100, "messages": [{"role": "user", "content": text}]},
    ),
}
OLLAMA: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "ollama": ("/api/chat", lambda text: {"messages": [{"role": "user", "content": text}]}),
}
OWN_FORMS = ANTHROPIC | OLLAMA
"""APIs with their own error format."""

EVERY_API = (*APIS, *OWN_FORMS)


class Diary(Hooks):
    """Records every call of a hook method."""

    def __init__(self) -> None:
        self.told: list[tuple[str, TurnInfo, Any]] = []
        self._changed = anyio.Event()

    def _write(self, name: str, turn: TurnInfo, what: Any) -> None:
        self.told.append((name, turn, what))
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def admit(self, turn: TurnInfo) -> None:
        self._write("admit", turn, None)

    def started(self, turn: TurnInfo) -> None:
        self._write("started", turn, None)

    def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
        self._write("event", turn, item)

    def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        self._write("ended", turn, outcome)

    async def settled(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        self._write("settled", turn, outcome)

    def of(self, name: str) -> list[Any]:
        """Arguments of the calls of one method."""
        return [what for told, _, what in self.told if told == name]

    def turns(self, name: str) -> list[TurnInfo]:
        """Turns for which one method was called."""
        return [turn for told, turn, _ in self.told if told == name]

    @property
    def names(self) -> list[str]:
        """Names of the called methods in order; consecutive `event` calls count once."""
        names = [name for name, _, _ in self.told]
        return [name for index, name in enumerate(names) if name != "event" or names[index - 1] != "event"]

    async def until(self, name: str, number: int = 1) -> None:
        """Wait until this method has been called `number` times."""
        with anyio.fail_after(PATIENCE):
            while len(self.of(name)) < number:
                await self._changed.wait()


class EndsAs:
    """An agent that ends as its prompt says: ok, error, pause, or never (until cancelled)."""

    def __init__(self) -> None:
        self.waits = anyio.Event()
        self.prompts: list[str] = []

    async def __call__(self, prompt: str, context: RunContext) -> AsyncIterator[Any]:
        self.prompts.append(prompt)
        yield "one "
        yield UsageReported(3, 2)
        if prompt == "error":
            raise AgentError("It broke.", code="broken")
        if prompt == "pause":
            yield Paused((PendingCall("call_1", "delete", '{"file":"a"}', "approval"),))
            return
        if prompt == "cancel":
            self.waits.set()
            await anyio.sleep_forever()
        yield "two"


def hooked_server(agent: Any, *hooks: Hooks, **settings: Any) -> Server:
    """A server with every API enabled."""
    apis = [AnthropicMessages(), Ollama()]
    return Server(agent, chat_rest=ChatRest(), chat_websocket=ChatWebSocket(), apis=apis, hooks=hooks, **settings)


async def ask(server: Server, api: str, prompt: str, *, stream: bool, **fields: Any) -> Recorder:
    """Answer of one HTTP API to a prompt."""
    path, body = (HTTP_APIS | OWN_FORMS)[api]
    return await answer(server, request(path, {"model": "agent", "stream": stream, **body(prompt), **fields}))


async def run_turn(server: Server, agent: EndsAs, api: str, ending: str, *, stream: bool) -> None:
    """Run one turn that ends as `ending` says; for "cancel" the client disconnects while the agent runs."""
    if api == "chat_websocket":
        async with chat(server, binary=not stream) as client:
            await client.say(ending)
            if ending == "cancel":
                await agent.waits.wait()
                await client.send(type="stop", thread_id="t")
            await client.until()
        return
    async with anyio.create_task_group() as group:
        if ending == "cancel":
            group.start_soon(_leave, agent, group.cancel_scope)
        await ask(server, api, ending, stream=stream)


async def _leave(agent: EndsAs, scope: anyio.CancelScope) -> None:
    await agent.waits.wait()
    scope.cancel()
