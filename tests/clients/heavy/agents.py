"""Agents for tests with whole programs. They record their requests, and wait where a test wants to check something first.

In the folder `AGENTS_FOLDER` they write runs.jsonl and look for the files that release them.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from openai_compat import (
    AgentError,
    AgentRequest,
    ApiKeys,
    Conversations,
    Cors,
    Paused,
    PendingCall,
    ReasoningDelta,
    Server,
    ToolCallReady,
    ToolResult,
    on_behalf,
)
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.api.ollama import Ollama
from openai_compat.messages import ImagePart, UserMessage

FOLDER = Path(os.environ.get("AGENTS_FOLDER", "."))
KEY = "sk-programs"
FAILED = "The shop has burnt down."
CLOSED = "The shop is closed today."


def note(what: str, request: AgentRequest, **more: Any) -> None:
    told = {
        "what": what,
        "prompt": request.prompt,
        "said": [message.text for message in request.messages],
        "caller": request.principal.id,
        "session": request.session_key,
        "tools": [tool.name for tool in request.tools],
        "system": request.system,
        **more,
    }
    with (FOLDER / "runs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")


async def wait_for(name: str) -> None:
    while not (FOLDER / name).exists():
        await anyio.sleep(0.05)


async def shop(request: AgentRequest) -> AsyncIterator[Any]:
    """Does what the last message says."""
    note("begun", request)
    try:
        async for event in _shop(request):
            yield event
    except BaseException as error:
        note("stopped", request, by=type(error).__name__)
        raise
    note("ended", request)


async def _shop(request: AgentRequest) -> AsyncIterator[Any]:
    if request.resume is not None:
        approved = request.resume.may_run("call_delete") and "call_delete" in request.resume.decisions
        if approved:
            yield ToolResult("call_delete", "deleted")
        yield "I have deleted it." if approved else "I have left it."
        return
    # Open WebUI puts a list of attached files above the user's message.
    match request.prompt.strip().rpartition("\n")[2].partition(" ")[0]:
        case "look":
            yield ReasoningDelta("I have to count them.")
            yield ToolCallReady("call_look", "look_up", '{"thing": "apples"}')
            await wait_for("looked")
            yield ToolResult("call_look", "three")
            yield "There are **three** apples."
        case "hold":
            yield "Holding."
            await wait_for("let go")
            yield " Let go."
        case "break":
            yield "Half an answer."
            raise AgentError(FAILED)
        case "fail":
            raise AgentError(CLOSED)
        case "delete":
            yield Paused((PendingCall("call_delete", "delete", '{"path": "a.txt"}', "approval"),))
        case _:
            pictures = [
                part
                for message in request.messages
                if isinstance(message, UserMessage)
                for part in message.parts
                if isinstance(part, ImagePart) and (part.content or b"").startswith(b"\x89PNG")
            ]
            yield f"{len(request.messages)} messages and {len(pictures)} pictures."


async def handy(request: AgentRequest) -> AsyncIterator[Any]:
    """Calls the client's tool named in the file `call.json`, once released, and repeats its result."""
    resume = request.resume
    note("begun", request, results=[result.text for result in resume.results.values()] if resume else [])
    if resume is not None:
        yield f"The tool said: {', '.join([result.text for result in resume.results.values()])}"
        return
    name, arguments = None, ""
    with suppress(FileNotFoundError):
        name, arguments = json.loads((FOLDER / "call.json").read_text("utf-8"))
    if name in {tool.name for tool in request.tools}:
        yield ToolCallReady("call_1", name, json.dumps(arguments))
    else:
        yield "I have no hands."


AGENTS = {"shop": shop, "handy": handy}
program = ApiKeys({KEY: "program"})
server = Server(
    AGENTS,
    authenticate=on_behalf(program, "X-OpenWebUI-User-Id", of=["program"]),
    conversations=Conversations(),
    cors=Cors(regex=r"http://127\.0\.0\.1:\d+"),
    apis=[Ollama(), AnthropicMessages()],
    unknown_model="default",  # Claude Code requests smaller models, too
)
"""For programs that send a key and name their users."""

branching = Server(
    AGENTS,
    authenticate=on_behalf(program, "X-OpenWebUI-User-Id", of=["program"]),
    conversations=Conversations(sources=["x-conversation-id"], by_transcript=True),
    apis=[Ollama()],
)
"""The same, but conversations are identified by their transcript."""
