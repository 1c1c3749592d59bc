"""Runs agent programs that speak ACP, the Agent Client Protocol: `ACPBackend`. Needs `openai-compat[acp]`. POSIX only."""

from __future__ import annotations

import asyncio
import base64
import importlib
import logging
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydantic_core import to_json

from ..agent_request import AgentRequest, Decision
from ..aio.subprocess import allowed_environment, end_group
from ..backend import Capabilities, RunContext
from ..errors import AgentError, InvalidRequest
from ..events import (
    AgentEvent,
    Finished,
    FinishReason,
    MediaDelta,
    Progress,
    ReasoningDelta,
    TextDelta,
    ToolCallReady,
    ToolResult,
    UsageReported,
)
from ..messages import AudioPart, FilePart, ImagePart, InputPart, Message, TextPart, UserMessage, transcript
from ..package import __version__, needs
from .pool import KeyedBackend

__all__ = ("ACPBackend",)

# Untyped: type checking would need the SDK installed. Tests run against its real versions.
with needs(__name__, "acp"):
    acp: Any = importlib.import_module("acp")
    schema: Any = importlib.import_module("acp.schema")

logger = logging.getLogger("openai_compat")

MAX_MESSAGE_BYTES = 50 * 1024 * 1024
"""Maximum bytes of a message, which may hold pictures."""

BATCH_DELAY = 0.1
"""Seconds that a question waits for further ones, so that one turn asks them all: a program sends them one by one."""

CAPABILITIES = Capabilities(client_tools=False, structured_output=False, approvals="yes_no", parameters=frozenset())
"""The capabilities that the protocol supports."""

REASONS: dict[str, FinishReason] = {
    "max_tokens": "length",
    "max_turn_requests": "length",
    "refusal": "content_filter",
}


@dataclass(frozen=True)
class _Launch:
    """How to start a program, and how long it has to stop."""

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    mcp_servers: Sequence[Any]
    grace: float


class ACPBackend(KeyedBackend):
    """Makes an agent of a program that speaks ACP: Claude Code, Codex, Gemini CLI, and any other.

    A conversation in use keeps its program (as with `keyed`). A new program loads the old session, if the program supports
    that. Messages that the session does not hold are sent as one text, such as the history of a chat without a conversation.

    When the program asks for permission, the turn ends with the question, and the program waits (see `RunContext.approve`).
    The program reads and writes files on its own, in `cwd`.

    Args:
        command: the program and its arguments, never run through a shell.
        pass_env: names of the server's environment variables that the program gets besides harmless ones such as PATH
            and HOME; "*" matches any characters ("ANTHROPIC_*").
        env: further variables for the program.
        cwd: the working directory of the program; by default, the server's.
        mcp_servers: MCP servers for the sessions, as types of `acp.schema`.
        grace: seconds that the program has to stop after a cancellation, and again when the program is ended.
        idle: maximum number of idle programs that are kept, each with its conversation.
        seconds: how long a program is kept between two turns.

    Raises TypeError for a command that is a single string, ValueError for an empty one.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        pass_env: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        mcp_servers: Sequence[Any] = (),
        grace: float = 1.0,
        idle: int = 32,
        seconds: float = 600.0,
    ) -> None:
        if isinstance(command, str):
            raise TypeError("a command is a list of arguments, not one string: there is no shell that would split it")
        if not command:
            raise ValueError("a command needs at least the name of a program")
        environment = allowed_environment(pass_env, env or {})
        launch = _Launch(command, environment, os.path.abspath(cwd or "."), mcp_servers, grace)  # noqa: PTH100  (Path.resolve follows links)
        super().__init__(
            lambda request: _ProgramSession(launch),
            key=lambda request: request.session_key,
            idle=idle,
            seconds=seconds,
            capabilities=CAPABILITIES,
        )


@dataclass
class _Call:
    """A tool call of the program, as reported so far."""

    title: str = "tool"
    input: Any = None
    output: str = ""
    shown: bool = False
    ended: bool = False

    @property
    def arguments(self) -> str:
        value: Any = {} if self.input is None else self.input
        return to_json(value if isinstance(value, dict) else {"input": value}, inf_nan_mode="null").decode()


class _ProgramSession:
    """A program with one session, and the ACP client that the program talks to; runs one turn at a time."""

    capabilities = CAPABILITIES

    def __init__(self, launch: _Launch) -> None:
        self._launch = launch
        self._process: Process | None = None
        self._agent: Any = None
        self._prompt_capabilities: Any = None  # its prompt capabilities
        self._log_task: asyncio.Task[None] | None = None
        self._id: str | None = None
        self._prompts = 0  # number of prompts in the session
        self._replayed: list[str] = []
        self._calls: dict[str, _Call] = {}
        self._plan: dict[str, str] = {}
        self._open_questions = 0
        self._batch_timer: asyncio.Task[None] | None = None
        self._all_answered = asyncio.Event()

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent]:
        """Prompt the program, and yield its events."""
        self._context = context
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._all_answered.set()
        try:
            has_session = self._id is not None or await self._start_program(request.state or {})
            prompt = self._prompt_blocks(request.new_messages if has_session else request.messages)
            self._prompts += 1
            turn = asyncio.ensure_future(self._agent.prompt(prompt=prompt, session_id=self._id))
            turn.add_done_callback(self._queue.put_nowait)
            try:
                while (item := await self._next_item()) is not turn:
                    yield item
                    self._queue.task_done()
                answer = turn.result()
            finally:
                if not turn.done():
                    await self._cancel_prompt(turn)
        except ConnectionError as error:
            text = "The agent's program has ended."
            raise AgentError(text, status=502, code="agent_command_failed") from error
        if getattr(answer, "usage", None) is not None:
            yield _usage(answer.usage)
        state = {"session": self._id, "prompts": self._prompts}
        yield Finished(REASONS.get(answer.stop_reason, "stop"), state=state)

    async def _start_program(self, state: Mapping[str, Any]) -> bool:
        """Start the program. Returns True if the program has loaded the session in `state`, False if the session is new."""
        launch = self._launch
        try:
            self._process = await asyncio.create_subprocess_exec(
                *launch.command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=launch.env,
                cwd=launch.cwd,
                # A separate process group, so that child processes can be ended with the program.
                start_new_session=True,
                limit=MAX_MESSAGE_BYTES,
            )
        except OSError as error:
            text = "The agent's program could not be started."
            raise AgentError(text, status=502, code="agent_command_failed") from error
        self._log_task = asyncio.ensure_future(_log_stderr(self._process.stderr, launch.command[0]))
        self._agent = acp.connect_to_agent(self, self._process.stdin, self._process.stdout)
        client = schema.Implementation(name="openai-compat", version=__version__)
        initialized = await self._agent.initialize(protocol_version=acp.PROTOCOL_VERSION, client_info=client)
        can = initialized.agent_capabilities or schema.AgentCapabilities()
        self._prompt_capabilities = can.prompt_capabilities or schema.PromptCapabilities()
        session_fields = {"cwd": launch.cwd, "mcp_servers": [*launch.mcp_servers]}
        if "session" in state and can.load_session:
            with suppress(acp.RequestError):  # the program no longer knows the session
                await self._agent.load_session(session_id=state["session"], **session_fields)
                # With other prompts since then, or a failed turn, the session holds another conversation.
                replayed = [kind for kind, _ in groupby(self._replayed) if kind == "user_message_chunk"]
                if len(replayed) == state["prompts"]:
                    self._id, self._prompts = state["session"], state["prompts"]
                    return True
        self._id = (await self._agent.new_session(**session_fields)).session_id
        return False

    def _prompt_blocks(self, messages: Sequence[Message]) -> list[Any]:
        """Messages as the blocks of a prompt: one text, then all media."""
        text = messages[0].text if len(messages) == 1 else transcript(messages)
        parts = [part for message in messages if isinstance(message, UserMessage) for part in message.parts]
        media = [self._to_block(part) for part in parts if not isinstance(part, TextPart)]
        return [*([acp.text_block(text)] if text else []), *media]

    def _to_block(self, part: InputPart) -> Any:
        if isinstance(part, AudioPart):
            self._require_capability("audio", "speech")
            return acp.audio_block(part.data, part.media_type)
        assert isinstance(part, ImagePart | FilePart)
        if part.content is None:
            url = (part.url if isinstance(part, ImagePart) else part.file_url) or ""
            return acp.resource_link_block(url.rpartition("/")[2] or url, url)
        data = base64.b64encode(part.content).decode()
        if isinstance(part, ImagePart):
            self._require_capability("image", "pictures")
            return acp.image_block(data, part.media_type or "image/png")
        self._require_capability("embedded_context", "documents")
        name = part.filename or "document"
        return acp.resource_block(acp.embedded_blob_resource(f"attachment:///{name}", data, mime_type=part.media_type))

    def _require_capability(self, capability: str, what: str) -> None:
        if not getattr(self._prompt_capabilities, capability):
            raise InvalidRequest(f"This agent does not take {what}.", param="messages", code="invalid_value")

    async def _next_item(self) -> Any:
        """The program's next event, once no question is open: an open question has ended the turn."""
        item = await self._queue.get()
        await self._all_answered.wait()
        if isinstance(item, Exception):
            raise item
        return item

    async def _cancel_prompt(self, turn: asyncio.Future[Any]) -> None:
        # Cancel by the protocol, so that the session stays usable; a program that does not react is ended.
        with suppress(ConnectionError):
            await self._agent.cancel(session_id=self._id)
        done, _ = await asyncio.wait([turn], timeout=self._launch.grace)
        if not done:
            turn.cancel()
        elif not turn.cancelled():
            turn.exception()  # mark as retrieved: the reader has left

    async def aclose(self) -> None:
        """End the program and its child processes."""
        if self._process is None:
            return
        if self._agent is not None:
            await self._agent.close()
        await end_group(self._process, self._launch.grace)
        await self._process.wait()
        if self._log_task is not None:
            self._log_task.cancel()

    # called by the program

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        """Queue the events of an update. Nothing is awaited here, so that updates stay in order."""
        if session_id != self._id:
            self._replayed.append(update.session_update)
            return
        for event in self._update_events(update):
            self._queue.put_nowait(event)

    async def request_permission(self, session_id: str, tool_call: Any, options: Sequence[Any], **_: Any) -> Any:
        """Get approval for a call. The turn ends with the question, after all earlier events were sent."""
        call = self._calls.setdefault(tool_call.tool_call_id, _Call())
        self._apply_update(call, tool_call)
        await self._queue.join()
        self._open_questions += 1
        self._all_answered.clear()
        for each in self._calls.values():
            each.shown = False  # show open calls again in the resumed turn
        if self._batch_timer is None or self._batch_timer.done():
            self._batch_timer = asyncio.create_task(asyncio.sleep(BATCH_DELAY))
        await asyncio.wait([self._batch_timer])
        try:
            decision = await self._context.approve(call.title, call.arguments)
        except Exception as error:  # approval may be impossible for this turn
            self._queue.put_nowait(error)
            decision = Decision(approved=False)
        finally:
            self._open_questions -= 1
            if not self._open_questions:
                self._all_answered.set()
        if self._context.cancelled:
            await self._agent.cancel(session_id=self._id)  # before the answer, which alone may look like a mere denial
            return {"outcome": {"outcome": "cancelled"}}
        if not decision.approved:
            call.ended = True
            self._queue.put_nowait(ToolCallReady(tool_call.tool_call_id, call.title, call.arguments, "agent"))
            self._queue.put_nowait(ToolResult(tool_call.tool_call_id, decision.reason or "denied", denied=True))
        return _permission_outcome(decision, options)

    def _update_events(self, update: Any) -> Iterator[AgentEvent]:
        match update.session_update:
            case "agent_message_chunk" if update.content.type == "text":
                yield TextDelta(update.content.text)
            case "agent_message_chunk" if update.content.type == "image":
                yield MediaDelta(base64.b64decode(update.content.data), update.content.mime_type)
            case "agent_thought_chunk" if update.content.type == "text":
                yield ReasoningDelta(update.content.text)
            case "plan":
                for entry in update.entries:  # each update has all entries
                    if entry.status != "pending" and self._plan.get(entry.content) != entry.status:
                        self._plan[entry.content] = entry.status
                        yield Progress("step", entry.content, entry.content, done=entry.status == "completed")
            case "tool_call" | "tool_call_update":
                yield from self._call_events(update)
            case _:
                pass

    def _call_events(self, update: Any) -> Iterator[AgentEvent]:
        call = self._calls.setdefault(update.tool_call_id, _Call())
        if call.ended:
            return
        self._apply_update(call, update)
        # The first update may have a provisional title and no input.
        running = update.status == "in_progress" or (update.session_update == "tool_call_update" and update.raw_input)
        call.ended = update.status in ("completed", "failed")
        if not call.shown and (running or call.ended):
            call.shown = True
            yield ToolCallReady(update.tool_call_id, call.title, call.arguments, "agent")
        if call.ended:
            yield ToolResult(update.tool_call_id, call.output, is_error=update.status == "failed")

    def _apply_update(self, call: _Call, update: Any) -> None:
        call.title = update.title or call.title
        call.input = call.input if update.raw_input is None else update.raw_input
        call.output = _call_output(update) or call.output


def _call_output(update: Any) -> str:
    """The output of a tool: texts and paths of changed files, or else the program's raw output."""
    texts = [
        item.path if item.type == "diff" else item.content.text
        for item in update.content or ()
        if item.type == "diff" or (item.type == "content" and item.content.type == "text")
    ]
    if texts or update.raw_output is None:
        return "\n".join(texts)
    raw = update.raw_output
    return raw if isinstance(raw, str) else to_json(raw, inf_nan_mode="null").decode()


def _permission_outcome(decision: Decision, options: Sequence[Any]) -> dict[str, Any]:
    kinds = ["allow_once", "allow_always"] if decision.approved else ["reject_once", "reject_always"]
    if decision.always:
        kinds.reverse()
    chosen = [option.option_id for kind in kinds for option in options if option.kind == kind]
    return {"outcome": {"outcome": "selected", "optionId": chosen[0]} if chosen else {"outcome": "cancelled"}}


def _usage(used: Any) -> UsageReported:
    # Some programs count cached tokens and thoughts apart, which the total reveals.
    cached = (used.cached_read_tokens or 0) + (used.cached_write_tokens or 0)
    apart = max(used.total_tokens - used.input_tokens - used.output_tokens, 0)
    return UsageReported(
        used.input_tokens + min(apart, cached),
        used.output_tokens + apart - min(apart, cached),
        cached_tokens=used.cached_read_tokens,
        reasoning_tokens=used.thought_tokens,
        cache_write_tokens=used.cached_write_tokens,
    )


async def _log_stderr(stderr: asyncio.StreamReader | None, program: str) -> None:
    assert stderr is not None
    async for line in stderr:
        logger.info("%s: stderr: %s", program, line[:500].decode("utf-8", "replace").rstrip())
