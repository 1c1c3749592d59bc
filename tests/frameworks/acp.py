"""Agent programs for the acceptance cases that speak ACP, each in a separate process, with the model in this process.

    python -m tests.frameworks.acp PORT FOLDER

starts the programs, which ask the model over a socket and store their sessions in a folder. The import of the protocol's
SDK takes half a second, and each turn starts a program: so one process imports the SDK, and forks for each program. The
backend starts `acp_program.py`.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.frameworks.model import CACHED, INPUT, OUTPUT, REASONING, Answer, Call, Model, Say, Seen, Shown, Think

acp: Any = importlib.import_module("acp")
schema: Any = importlib.import_module("acp.schema")

NAME = "ACP"
ROOT = Path(__file__).parents[2]
SOCKET = "programs.sock"
STARTERS: list[subprocess.Popen[bytes]] = []

IMPOSSIBLE = {
    "rate limits": "an agent program does not report the answer of its model's API",
    "edited": "a permission is a yes or a no",
    "restart": "the program waits for the decision",
    "client tools": "the protocol has no client-side tools",
    "both tools": "the protocol has no client-side tools",
    "tool names": "tools that a client offers are ignored",
    "structured output": "the protocol has no field for a schema",
    "parameters": "the protocol has no fields for them",
}


def agents(model: Model) -> dict[str, Any]:
    backend: Any = importlib.import_module("openai_compat.backends.acp").ACPBackend
    program = programs(model)
    return {name: backend([*program, name]) for name in ("plain", "instructed", "weather", "careful", "expert")}


def provide(model: Model, folder: Path, monkeypatch: Any) -> None:
    """Prepare the file of `openai-compat init`: put the program that it names on the PATH."""
    program = folder / "claude-agent-acp"
    program.write_text(f"#!/bin/sh\nexec {shlex.join([*programs(model), 'plain'])}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def programs(model: Model) -> list[str]:
    """The command of a program, without the name of the agent. Raises RuntimeError if programs cannot be started."""
    folder = tempfile.mkdtemp()
    command = [sys.executable, "-m", "tests.frameworks.acp", str(serve(model)), folder]
    # The starter ends with this process, which holds the other end of its stdin.
    starter = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    STARTERS.append(starter)
    assert starter.stdout is not None
    if starter.stdout.readline() != b"ready\n":
        raise RuntimeError("the programs cannot be started")
    return [sys.executable, "-I", "-S", str(ROOT / "tests/frameworks/acp_program.py"), f"{folder}/{SOCKET}"]


# the model, over a socket


def serve(model: Model) -> int:
    """Serve the model in a thread; returns the port. A connection is one model or tool call, which stops if it is closed."""
    port: Any = asyncio.run_coroutine_threadsafe(_listen(model), _loop()).result()
    return int(port)


def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


async def _listen(model: Model) -> int:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.readline())
        answering = asyncio.ensure_future(_answer(model, asked, writer))
        left = asyncio.ensure_future(reader.read())
        await asyncio.wait([answering, left], return_when=asyncio.FIRST_COMPLETED)
        answering.cancel()
        left.cancel()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**20)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _answer(model: Model, asked: Any, writer: asyncio.StreamWriter) -> None:
    try:
        if "tool" in asked:
            told = [{"result": await getattr(model, asked["tool"])(**asked["arguments"])}]
        else:
            told = []
            shown = [Shown(**{**message, "media": tuple(message["media"])}) for message in asked["messages"]]
            async for step in model.answer(Seen(shown, asked["tools"])):
                writer.write(json.dumps({type(step).__name__: asdict(step)}).encode() + b"\n")
        for one in told:
            writer.write(json.dumps(one).encode() + b"\n")
    except Exception as error:
        writer.write(json.dumps({"error": repr(error)}).encode() + b"\n")
    await writer.drain()


class Remote:
    """The model as seen from the process of a program."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def ask(self, asked: dict[str, Any]) -> Any:
        """Yield the model's answer, line by line."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(json.dumps(asked).encode() + b"\n")
            while line := await reader.readline():
                told = json.loads(line)
                if "error" in told:
                    raise RuntimeError(told["error"])
                yield told
        finally:
            writer.close()


# the program

TOOLS = {"weather": ["get_weather", "wait"], "careful": ["get_weather", "tell_time"], "expert": ["ask_expert"]}
STEPS = {kind.__name__: kind for kind in (Say, Think, Call, Answer)}


class Program:
    def __init__(self, port: int, folder: str, name: str) -> None:
        self.model = Remote(port)
        self.folder = Path(folder)
        self.name = name
        self.running: dict[str, asyncio.Task[Any]] = {}
        self.calls = 0
        self.client: Any = None

    def on_connect(self, client: Any) -> None:
        self.client = client

    async def initialize(self, **_: Any) -> Any:
        prompts = schema.PromptCapabilities(image=True)
        can = schema.AgentCapabilities(load_session=True, prompt_capabilities=prompts)
        return schema.InitializeResponse(protocol_version=acp.PROTOCOL_VERSION, agent_capabilities=can)

    async def new_session(self, **_: Any) -> Any:
        session_id = uuid.uuid4().hex
        self.save(session_id, [asdict(Shown("system", "Be kind."))] if self.name == "instructed" else [])
        return schema.NewSessionResponse(session_id=session_id)

    async def load_session(self, session_id: str, **_: Any) -> Any:
        for message in self.load(session_id):
            if message["role"] == "user":
                await self.client.session_update(session_id, acp.update_user_message_text(message["text"]))
            elif message["role"] == "assistant":
                await self.client.session_update(session_id, acp.update_agent_message_text(message["text"]))
        return schema.LoadSessionResponse()

    async def prompt(self, prompt: list[Any], session_id: str, **_: Any) -> Any:
        self.running[session_id] = asyncio.ensure_future(self.answer(prompt, session_id))
        calls = self.calls
        reason = "end_turn"
        try:
            await self.running[session_id]
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # cancelled by a lost connection, not by the client
                raise
            reason = "cancelled"
        made = self.calls - calls
        usage = schema.Usage(
            input_tokens=made * (INPUT - CACHED),
            cached_read_tokens=made * CACHED,
            output_tokens=made * (OUTPUT - REASONING),
            thought_tokens=made * REASONING,
            total_tokens=made * (INPUT + OUTPUT),
        )
        return schema.PromptResponse(stop_reason=reason, usage=usage)

    async def cancel(self, session_id: str, **_: Any) -> None:
        self.running[session_id].cancel()

    async def answer(self, prompt: list[Any], session_id: str) -> None:
        messages = self.load(session_id)
        messages += _read(prompt)
        called = [{}]
        while called:
            self.save(session_id, messages)
            said, called = "", []
            async for step in self.steps(messages, TOOLS.get(self.name, [])):
                match step:
                    case Say(text):
                        said += text
                        await self.client.session_update(session_id, acp.update_agent_message_text(text))
                    case Think(text):
                        await self.client.session_update(session_id, acp.update_agent_thought_text(text))
                    case Call():
                        called.append(step)
            ids = [f"{call.id}_{next(NUMBERS)}" for call in called]
            messages.append(asdict(Shown("assistant", said, tuple(ids))))
            results = await asyncio.gather(*[self.call(session_id, *one) for one in zip(ids, called, strict=True)])
            told = zip(ids, results, strict=True)
            messages += [asdict(Shown("tool", result, call_id=call_id)) for call_id, result in told]
        self.save(session_id, messages)

    async def steps(self, messages: list[Any], tools: list[str]) -> Any:
        self.calls += 1
        async for told in self.model.ask({"messages": messages, "tools": tools}):
            for name, values in told.items():
                yield STEPS[name](**values)

    async def call(self, session_id: str, call_id: str, call: Any) -> str:
        """Run a tool and report the call, whose name and input come only in a later update."""
        client, known = self.client, {"title": call.name, "raw_input": call.arguments}
        await client.session_update(session_id, acp.start_tool_call(call_id, "Tool", status="pending"))
        if self.name == "careful" and call.name == "get_weather":
            asked = schema.ToolCallUpdate(tool_call_id=call_id, **known)
            kinds = ("reject_always", "allow_always", "allow_once", "reject_once")
            options = [schema.PermissionOption(option_id=f"my {kind}", name=kind, kind=kind) for kind in kinds]
            answer = await client.request_permission(session_id=session_id, tool_call=asked, options=options)
            if answer.outcome.outcome == "cancelled":
                raise asyncio.CancelledError
            if getattr(answer.outcome, "option_id", None) != "my allow_once":
                await client.session_update(session_id, acp.update_tool_call(call_id, status="failed"))
                return "denied"
        await client.session_update(session_id, acp.update_tool_call(call_id, status="in_progress", **known))
        result = await self.run(call)
        content = [acp.tool_content(acp.text_block(result))]
        await client.session_update(session_id, acp.update_tool_call(call_id, status="completed", content=content))
        return result

    async def run(self, call: Any) -> str:
        if call.name == "ask_expert":
            asked = [asdict(Shown("user", call.arguments["question"]))]
            return "".join([step.text async for step in self.steps(asked, [])])
        [told] = [told async for told in self.model.ask({"tool": call.name, "arguments": call.arguments})]
        return str(told["result"])

    def load(self, session_id: str) -> Any:
        return json.loads((self.folder / session_id).read_text("utf-8"))

    def save(self, session_id: str, messages: Any) -> None:
        (self.folder / session_id).write_text(json.dumps(messages), "utf-8")


NUMBERS = itertools.count()


def _read(prompt: list[Any]) -> list[dict[str, Any]]:
    """Split a prompt into messages: a whole conversation comes as one text with role headings."""
    text = "\n".join([block.text for block in prompt if block.type == "text"])
    media = tuple([f"data:{block.mime_type};base64,{block.data}" for block in prompt if block.type == "image"])
    first, *rest = re.split(r"(?:^|\n\n)(System|User|Assistant):\n", text)
    if not rest:
        return [asdict(Shown("user", first, media=media))]
    said = [Shown(role.lower(), told) for role, told in zip(rest[::2], rest[1::2], strict=True)]
    return [asdict(one) for one in said[:-1]] + [{**asdict(said[-1]), "media": media}]


def start_programs(port: int, folder: str) -> None:
    """Fork a program for each connection, until stdin ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing waits for the children
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/{SOCKET}")
        listening.listen()
        print("ready", flush=True)
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            asking, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                run_program(asking, port, folder)
            asking.close()


def run_program(asking: socket.socket, port: int, folder: str) -> None:
    """Run as the program whose standard streams come over the socket, and end with that program."""
    name, streams, _, _ = socket.recv_fds(asking, 100, 3)
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    # The backend ends the program at the other end of the socket, not this process.
    threading.Thread(target=lambda: (asking.recv(1), os._exit(1)), daemon=True).start()
    asyncio.run(acp.run_agent(Program(port, folder, name.decode())))
    os._exit(0)


if __name__ == "__main__":
    start_programs(int(sys.argv[1]), sys.argv[2])
