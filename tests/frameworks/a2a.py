"""A remote agent for the acceptance cases, which speaks A2A by the official SDK and is served by this process."""

from __future__ import annotations

import contextlib
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from openai_compat.backends.a2a import A2ABackend
from tests.frameworks.model import INNER, Call, Model, Say, Seen, Shown
from tests.transports import asgi_socket

execution: Any = importlib.import_module("a2a.server.agent_execution")
handlers: Any = importlib.import_module("a2a.server.request_handlers")
helpers: Any = importlib.import_module("a2a.helpers")
routes: Any = importlib.import_module("a2a.server.routes")
tasks: Any = importlib.import_module("a2a.server.tasks")
types: Any = importlib.import_module("a2a.types")

NAME = "A2A"
IMPOSSIBLE = {
    "usage": "the protocol does not report them, so they are estimated",
    "cached": "the protocol does not report them",
    "details": "the protocol does not report them",
    "tools": "the protocol does not report an agent's tool calls",
    "reasoning": "the protocol does not report it",
    "history": "a remote agent accepts one message: the earlier messages are sent as text",
    "rate limits": "a remote agent does not report the answer of its model's API",
    "approvals": "a remote agent asks in text, and the user's next message is the answer",
    "edited": "a remote agent asks in text",
    "another message": "a remote agent asks in text",
    "several approvals": "a remote agent asks in text",
    "restart": "a remote agent asks in text; an answer reaches it even after a restart",
    "client tools": "the protocol has no client-side tools",
    "both tools": "the protocol has no client-side tools",
    "tool names": "tools that a client offers are ignored",
    "structured output": "the protocol has no field for a schema",
    "parameters": "the protocol has no fields for them",
    "their tokens": "the protocol does not report them",
}


class Remote(execution.AgentExecutor):
    """Runs its own tools, without reporting them."""

    def __init__(self, model: Model) -> None:
        self.double = model

    async def execute(self, context: Any, event_queue: Any) -> None:
        task = helpers.new_task_from_user_message(context.message)
        await event_queue.enqueue_event(task)
        updater = tasks.TaskUpdater(event_queue, task.id, task.context_id)
        await updater.start_work()
        said, is_first = _shown(context.message), True
        while said:
            results: list[Shown] = []
            async for step in self.double.answer(Seen(said, ["wait", "ask_expert"])):
                if isinstance(step, Say):
                    part = types.Part(text=step.text)
                    await updater.add_artifact([part], artifact_id=task.id, append=not is_first)
                    is_first = False
                elif isinstance(step, Call):
                    results.append(Shown("tool", await self._result_of(step)))
            said = [*said, *results] if results else []
        await updater.complete()

    async def _result_of(self, call: Call) -> str:
        return await self.double.wait() if call.name == "wait" else INNER

    async def cancel(self, context: Any, event_queue: Any) -> None:
        await tasks.TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


KEPT = contextlib.ExitStack()
"""Keeps the agents served while this process runs."""


def agents(model: Model) -> dict[str, Any]:
    url = serve(Remote(model), streams=True)
    return dict.fromkeys(("plain", "instructed", "weather", "careful", "expert"), A2ABackend(url))


def provide(model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare the file of `openai-compat init`: set the URL of a remote agent."""
    file = folder / "agent.py"
    file.write_text(file.read_text().replace("https://travel.example", serve(Remote(model), streams=True)))


def serve(remote: Any, *, streams: bool) -> str:
    """Serve an agent while this process runs; returns its URL."""
    app = Starlette()
    url = KEPT.enter_context(asgi_socket(app))
    card = types.AgentCard(
        name="double",
        description="A double.",
        version="1",
        supported_interfaces=[types.AgentInterface(protocol_binding="JSONRPC", protocol_version="1.0", url=f"{url}/")],
        capabilities=types.AgentCapabilities(streaming=streams),
        default_input_modes=["text/plain", "image/*"],
        default_output_modes=["text/plain"],
        skills=[types.AgentSkill(id="talk", name="talk", description="Talks.", tags=["talk"])],
    )
    handler = handlers.DefaultRequestHandler(remote, tasks.InMemoryTaskStore(), card)
    app.router.routes += [*routes.create_jsonrpc_routes(handler, "/"), *routes.create_agent_card_routes(card)]
    return url


def _shown(message: Any) -> list[Shown]:
    """Split the text of a message back into the messages of the conversation."""
    text = "\n".join([part.text for part in message.parts if part.text])
    media = tuple([part.raw for part in message.parts if part.raw])
    told = re.split(r"(?:^|\n\n)(System|User|Assistant):\n", text)
    if len(told) == 1:
        return [Shown("user", text, media=media)]
    return [Shown(role.lower(), said) for role, said in zip(told[1::2], told[2::2], strict=True)]
