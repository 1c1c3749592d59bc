"""The Claude Agent SDK's agents for the acceptance cases: the real program, with a local fake of Anthropic's API."""

from __future__ import annotations

import base64
import importlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json, to_json

from openai_compat import (
    AgentError,
    AgentRequest,
    Capabilities,
    ReasoningDelta,
    RunContext,
    Server,
    TextDelta,
    ToolCallReady,
    UsageReported,
)
from openai_compat.testing.messages_api import MESSAGES
from openai_compat_adapters.testing import listening
from tests.frameworks import model as double
from tests.frameworks.model import CACHED, INNER, INPUT, OUTPUT, REASONING, Answer, Call, Model, Say, Seen, Shown, Think

sdk: Any = importlib.import_module("claude_agent_sdk")
backend: Any = importlib.import_module("openai_compat.backends.claude_agent_sdk")

NAME = "Claude Agent SDK"

IMPOSSIBLE = {
    "rate limits": "the program retries on its own and reports how long it waits, but not the 429 after which it gives up",
    "history": "the program does not accept a history: a conversation that the server does not store is sent as text",
    "several approvals": "the program waits for one call at a time, so it asks one by one",
    "parameters": "the program has no temperature and no max_tokens; reasoning effort is passed on",
}

PATIENCE = 10.0
"""Seconds that stopping may take: the program reacts only once it has started."""

os.environ.setdefault("CLAUDE_CONFIG_DIR", tempfile.mkdtemp())  # shared with child processes
OF_THE_PROGRAM = ("<system-reminder>", "x-anthropic-billing-header:", "You are a Claude agent", "Continue from where")
"""Prefixes of texts that the program itself adds."""

serving = ExitStack()


def provide(model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare the file of `openai-compat init`: set a key, and the URL of the fake API."""
    for name, value in variables_of(model).items():
        monkeypatch.setenv(name, value)


def variables_of(model: Model) -> dict[str, str]:
    """The environment variables with which the program asks `model`."""
    url = serving.enter_context(
        listening(MessagesServer({"double": Double(model)}, unknown_model="default", apis=[MESSAGES]))
    )
    variables = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "any", "CLAUDE_CODE_MAX_RETRIES": "0"}
    return variables | {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}


def agents(model: Model) -> dict[str, Any]:
    variables = variables_of(model)

    def own(*functions: Any) -> Any:
        return sdk.create_sdk_mcp_server("own", tools=[_tool(function) for function in functions])

    options = sdk.ClaudeAgentOptions(tools=[], setting_sources=[], env=variables, allowed_tools=["mcp__own"])
    weather = replace(options, mcp_servers={"own": own(model.get_weather, model.wait)})
    careful = replace(options, mcp_servers={"own": own(model.get_weather, model.tell_time)})
    return {
        "plain": options,
        "instructed": replace(options, system_prompt="Be kind."),
        "weather": weather,
        "careful": backend.ClaudeAgentBackend(careful, ask=["mcp__own__get_weather"]),
        "expert": replace(
            options, tools=["Agent"], agents={"ask_expert": sdk.AgentDefinition("An expert.", "Be wise.")}
        ),
    }


def _tool(function: Any) -> Any:
    async def run(arguments: dict[str, Any]) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": await function(**arguments)}]}

    parameters = dict.fromkeys([name for name in function.__annotations__ if name != "return"], str)
    return sdk.tool(function.__name__, function.__doc__, parameters)(run)


class MessagesServer(Server):
    """Anthropic's API; passes the whole body of a request on as its first message."""

    async def handle(self, request: Any, send: Any, has_room: Any = None) -> None:
        body = b"".join([piece async for piece in request.body])
        if body:
            fields = from_json(body)
            body = to_json({**fields, "messages": [fields]})

        async def once() -> AsyncIterator[bytes]:
            yield body

        await super().handle(replace(request, body=once()), send, has_room)


class Double:
    """Answers like the model of the cases."""

    capabilities = Capabilities()

    def __init__(self, model: Model) -> None:
        self._model = model

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        body: Any = request.raw_messages[0]
        yield UsageReported(INPUT, OUTPUT, cached_tokens=CACHED, reasoning_tokens=REASONING)
        names = {name.rpartition("__")[2]: name for name in _names(body)}
        try:
            async for step in self._model.answer(_seen(body)):
                match step:
                    case Say(text):
                        yield TextDelta(text)
                    case Think(text):
                        yield ReasoningDelta(text)
                    case Call(name="ask_expert", arguments=asked):
                        told = {"subagent_type": "ask_expert", "description": "ask", "prompt": asked["question"]}
                        told |= {"run_in_background": False}
                        yield ToolCallReady("toolu_1", "Agent", to_json(told).decode())
                    case Call(id=call_id, name=name):
                        yield ToolCallReady(f"toolu_{call_id}", names[name], "".join(step.pieces))
                    case Answer(value):
                        yield ToolCallReady("toolu_out", "StructuredOutput", to_json(value).decode())
        except double.RateLimited:
            raise AgentError(double.SECRET, status=429, retry_after=7) from None


def _names(body: Any) -> list[str]:
    return [tool["name"] for tool in body.get("tools") or ()]


def _seen(body: Any) -> Seen:
    system: Any = body.get("system") or []
    told: list[Any] = [{"text": system}] if isinstance(system, str) else system
    shown = [Shown("system", block["text"]) for block in told if not block["text"].startswith(OF_THE_PROGRAM)]
    for message in body["messages"]:
        shown += _shown(message) if message["role"] != "system" else []
    schemas = [tool["input_schema"] for tool in body.get("tools") or () if tool["name"] == "StructuredOutput"]
    output: dict[str, Any] = body.get("output_config") or {}
    settings = {"reasoning_effort": output.get("effort")}
    names = [name.rpartition("__")[2] for name in _names(body)]
    return Seen(shown, names, settings, schemas[0] if schemas else None)


def _shown(message: Any) -> Iterator[Shown]:
    content = message["content"]
    blocks: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for block in blocks:
        if block["type"] == "tool_result":
            told = block["content"]
            text = told if isinstance(told, str) else " ".join([part.get("text", "") for part in told])
            text = INNER if INNER in text else text  # the program wraps the answer of a sub-agent
            yield Shown("tool", text, call_id=block["tool_use_id"])
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    texts = [text for text in texts if not text.startswith(OF_THE_PROGRAM)]
    if texts and texts[0].startswith("The conversation so far:"):
        yield Shown("user", texts.pop(0))
    calls = tuple([block["id"] for block in blocks if block["type"] == "tool_use"])
    media = tuple([base64.b64decode(block["source"]["data"]) for block in blocks if block["type"] == "image"])
    if texts or calls or media:
        yield Shown(message["role"], " ".join(texts), calls, media=media)
