"""Asks remote agents over the Agent2Agent protocol: `A2ABackend`. Needs `openai-compat[a2a]`."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from typing import Any

import anyio
from pydantic_core import to_json

from ..agent_request import AgentRequest
from ..backend import Capabilities, RunContext
from ..errors import InvalidRequest
from ..events import AgentEvent, Finished, MediaDelta, MessageBreak, Progress, RefusalDelta, TextDelta
from ..messages import InputPart, Message, TextPart, UserMessage, transcript
from ..package import needs

__all__ = ("A2ABackend",)

# Untyped: type checking would need the SDK installed. Tests run against its real versions.
with needs(__name__, "a2a"):
    client: Any = importlib.import_module("a2a.client")
    types: Any = importlib.import_module("a2a.types")
    A2AError: Any = importlib.import_module("a2a.utils.errors").A2AError
    MessageToDict: Any = importlib.import_module("google.protobuf.json_format").MessageToDict
    httpx: Any = importlib.import_module("httpx")

CONNECT_TIMEOUT = 10.0
"""Connect timeout in seconds. The answer is limited by the server's deadlines."""

CANCEL_TIMEOUT = 5.0
"""Timeout of the cancel request to the remote agent, in seconds."""

FINAL_STATES = ("COMPLETED", "FAILED", "CANCELED", "REJECTED")
WAITING_STATES = ("INPUT_REQUIRED", "AUTH_REQUIRED")


class A2ABackend:
    """Asks a remote agent over the Agent2Agent protocol, once for each turn.

    A turn is a task of the remote agent; the conversation history is sent as text. If a task requires input, the turn
    ends with the agent's question, and the user's next message goes to that task.

    Args:
        agent: the base URL of the agent card, or the card.
        headers: HTTP headers of each request, such as `Authorization`, or a function that makes them for a turn.
    """

    def __init__(
        self, agent: Any, *, headers: Mapping[str, str] | Callable[[AgentRequest], Mapping[str, str]] | None = None
    ) -> None:
        self._agent = agent
        self._card: Any = None if isinstance(agent, str) else agent
        self._headers = headers or {}
        self.capabilities = Capabilities(
            client_tools=False, structured_output=False, approvals="none", parameters=frozenset()
        )

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent]:
        """Ask the remote agent, and yield its events."""
        headers = self._headers(request) if callable(self._headers) else self._headers
        async with httpx.AsyncClient(
            headers=dict(headers), timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT)
        ) as http:
            if self._card is None:
                self._card = await client.A2ACardResolver(http, self._agent).get_agent_card()
            remote = client.ClientFactory(client.ClientConfig(httpx_client=http)).create(self._card)
            translator, open_task = _A2ATranslator(), request.state
            messages = [_to_a2a_message(request.messages, None)]
            if open_task is not None:
                messages.insert(0, _to_a2a_message(request.new_messages, open_task))
            _check_media_types(messages[-1].parts, self._card)
            try:
                async for item in _send_first_accepted(remote, messages, translator):
                    yield item
            finally:
                # Closing the connection alone would leave the task running.
                if translator.task and translator.state not in (*FINAL_STATES, *WAITING_STATES):
                    with anyio.move_on_after(CANCEL_TIMEOUT, shield=True), suppress(A2AError):
                        await remote.cancel_task(types.CancelTaskRequest(id=translator.task))


async def _send_first_accepted(
    remote: Any, messages: Sequence[Any], translator: _A2ATranslator
) -> AsyncIterator[AgentEvent]:
    """Yield the agent's answer to the first message that the agent accepts."""
    for message in messages:
        try:
            async for response in remote.send_message(types.SendMessageRequest(message=message)):
                for item in translator.translate(response):
                    yield item
            for item in translator.end():
                yield item
            return
        except A2AError as error:
            # Another answer to the same question may have ended the task that asked.
            if message is messages[-1] or translator.task or isinstance(error, client.A2AClientError):
                raise


class _A2ATranslator:
    """Translates the responses of a remote agent to events."""

    def __init__(self) -> None:
        self.task = ""
        self.state = ""
        self._artifact = ""
        self._context = ""
        self._snapshot: Any = None  # a task's current state; a streaming agent sends updates after it

    def translate(self, response: Any) -> Iterator[AgentEvent]:
        self._snapshot = None
        if response.HasField("message"):
            yield from _part_events(response.message.parts)
        elif response.HasField("artifact_update"):
            yield from self._translate_artifact(response.artifact_update.artifact)
        elif response.HasField("status_update"):
            self.task, self._context = response.status_update.task_id, response.status_update.context_id
            yield from self._translate_status(response.status_update.status)
        elif response.HasField("task"):
            self.task, self._context, self._snapshot = response.task.id, response.task.context_id, response.task

    def end(self) -> Iterator[AgentEvent]:
        """The final events. A task without later updates is the whole answer."""
        if self._snapshot is not None:
            for artifact in self._snapshot.artifacts:
                yield from self._translate_artifact(artifact)
            yield from self._translate_status(self._snapshot.status)
        if self.state in WAITING_STATES:
            yield Finished(state={"task": self.task, "context": self._context})

    def _translate_artifact(self, artifact: Any) -> Iterator[AgentEvent]:
        if artifact.artifact_id != self._artifact:
            self._artifact = artifact.artifact_id
            yield MessageBreak()
        yield from _part_events(artifact.parts)

    def _translate_status(self, status: Any) -> Iterator[AgentEvent]:
        self.state = types.TaskState.Name(status.state).removeprefix("TASK_STATE_")
        text = "".join([part.text for part in status.message.parts])
        if self.state in ("FAILED", "CANCELED"):
            raise RuntimeError(f"the task of the remote agent has ended as {self.state}: {text}")
        if self.state == "REJECTED":
            yield RefusalDelta(text or "The agent does not take this task.")
        elif self.state == "WORKING" and text:
            yield Progress("step", status.message.message_id or text, text, done=True)
        elif self.state in ("COMPLETED", *WAITING_STATES) and status.message.parts:
            yield MessageBreak()
            yield from _part_events(status.message.parts)


def _part_events(parts: Iterable[Any]) -> Iterator[AgentEvent]:
    for part in parts:
        match part.WhichOneof("content"):
            case "text":
                yield TextDelta(part.text)
            case "raw" if part.media_type.startswith("image/"):
                yield MediaDelta(part.raw, part.media_type)
            case "raw":
                yield TextDelta(f"[{part.filename or part.media_type}]")
            case "url":
                yield TextDelta(f"[{part.filename or part.url}]({part.url})")
            case "data":
                yield TextDelta(to_json(MessageToDict(part.data)).decode())
            case _:
                pass


def _to_a2a_message(messages: Sequence[Message], open_task: Mapping[str, Any] | None) -> Any:
    """Make an A2A message of the text and the media in `messages`, addressed to the `open_task`, if any."""
    user_messages = [message for message in messages if isinstance(message, UserMessage)]
    if open_task is None and len(messages) > 1:
        text = transcript(messages)
    else:
        text = "\n\n".join([message.text for message in user_messages])
    parts = [types.Part(text=text)] if text else []
    parts += [
        _to_a2a_part(part) for message in user_messages for part in message.parts if not isinstance(part, TextPart)
    ]
    task_fields = {} if open_task is None else {"task_id": open_task["task"], "context_id": open_task["context"]}
    return types.Message(message_id=uuid.uuid4().hex, role=types.Role.ROLE_USER, parts=parts, **task_fields)


def _to_a2a_part(part: InputPart) -> Any:
    if isinstance(part, TextPart):
        return types.Part(text=part.text)
    url = getattr(part, "url", None) or getattr(part, "file_url", None)
    fields = {"media_type": part.media_type or "", "filename": getattr(part, "filename", None) or ""}
    if part.content is None and url is None:
        text = "This agent takes files as 'file_data' or by URL, not by 'file_id'."
        raise InvalidRequest(text, param="messages", code="invalid_value")
    return types.Part(url=url, **fields) if part.content is None else types.Part(raw=part.content, **fields)


def _check_media_types(parts: Iterable[Any], card: Any) -> None:
    """Raise InvalidRequest for a media type that the agent card does not accept."""
    modes = [*card.default_input_modes, *[mode for skill in card.skills for mode in skill.input_modes]]
    for part in parts:
        kind = part.media_type
        if kind and modes and not any([fnmatch(kind, mode) or kind.startswith(f"{mode}/") for mode in modes]):
            text = f"This agent does not take '{kind}'."
            raise InvalidRequest(text, param="messages", code="invalid_value")
