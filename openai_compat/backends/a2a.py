"""Asks remote agents by the Agent2Agent protocol: `A2ABackend`. Needs `openai-compat[a2a]`."""

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

# Not checked by types, which would need the SDK wherever they are checked, but run against its real versions.
with needs(__name__, "a2a"):
    client: Any = importlib.import_module("a2a.client")
    types: Any = importlib.import_module("a2a.types")
    A2AError: Any = importlib.import_module("a2a.utils.errors").A2AError
    MessageToDict: Any = importlib.import_module("google.protobuf.json_format").MessageToDict
    httpx: Any = importlib.import_module("httpx")

CONNECT = 10.0
"""Seconds that a connection may take. How long the answer may, the server's deadlines say."""

CANCEL = 5.0
"""Seconds for telling the remote agent that nobody waits any more."""

ENDED = ("COMPLETED", "FAILED", "CANCELED", "REJECTED")
ASKS = ("INPUT_REQUIRED", "AUTH_REQUIRED")


class A2ABackend:
    """Asks a remote agent, which speaks the Agent2Agent protocol, once for each turn.

    A turn is a task of the remote agent; what was said before is told as text. Where a task wants input, the turn ends with
    the agent's question, and what the user says next goes to that task.

    Args:
        agent: the address below which its card is, or the card.
        headers: what is sent with each request, an `Authorization` perhaps; or what makes it for a turn.
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
        """Ask the remote agent, and yield what it says."""
        headers = self._headers(request) if callable(self._headers) else self._headers
        async with httpx.AsyncClient(headers=dict(headers), timeout=httpx.Timeout(None, connect=CONNECT)) as http:
            if self._card is None:
                self._card = await client.A2ACardResolver(http, self._agent).get_agent_card()
            remote = client.ClientFactory(client.ClientConfig(httpx_client=http)).create(self._card)
            translation, waiting = _A2ATranslation(), request.state
            told = [_message(request.messages, None)]
            if waiting is not None:
                told.insert(0, _message(request.new_messages, waiting))
            _check(told[-1].parts, self._card)
            try:
                async for item in _answer(remote, told, translation):
                    yield item
            finally:
                # Who only closes the connection leaves the task running.
                if translation.task and translation.state not in (*ENDED, *ASKS):
                    with anyio.move_on_after(CANCEL, shield=True), suppress(A2AError):
                        await remote.cancel_task(types.CancelTaskRequest(id=translation.task))


async def _answer(remote: Any, told: Sequence[Any], translation: _A2ATranslation) -> AsyncIterator[AgentEvent]:
    """What the agent says to the first of these messages that it takes."""
    for message in told:
        try:
            async for response in remote.send_message(types.SendMessageRequest(message=message)):
                for item in translation.of(response):
                    yield item
            for item in translation.end():
                yield item
            return
        except A2AError as error:
            # The task that has asked may be over by now, by another answer to the same question.
            if message is told[-1] or translation.task or isinstance(error, client.A2AClientError):
                raise


class _A2ATranslation:
    """What a remote agent sends, as our events."""

    def __init__(self) -> None:
        self.task = ""
        self.state = ""
        self._artifact = ""
        self._context = ""
        self._snapshot: Any = None  # a task as it is, from which the agent goes on, if it streams

    def of(self, response: Any) -> Iterator[AgentEvent]:
        self._snapshot = None
        if response.HasField("message"):
            yield from _said(response.message.parts)
        elif response.HasField("artifact_update"):
            yield from self._of_artifact(response.artifact_update.artifact)
        elif response.HasField("status_update"):
            self.task, self._context = response.status_update.task_id, response.status_update.context_id
            yield from self._of_status(response.status_update.status)
        elif response.HasField("task"):
            self.task, self._context, self._snapshot = response.task.id, response.task.context_id, response.task

    def end(self) -> Iterator[AgentEvent]:
        """What is left to say where nothing more comes: a task that nothing has followed is the whole answer."""
        if self._snapshot is not None:
            for artifact in self._snapshot.artifacts:
                yield from self._of_artifact(artifact)
            yield from self._of_status(self._snapshot.status)
        if self.state in ASKS:
            yield Finished(state={"task": self.task, "context": self._context})

    def _of_artifact(self, artifact: Any) -> Iterator[AgentEvent]:
        if artifact.artifact_id != self._artifact:
            self._artifact = artifact.artifact_id
            yield MessageBreak()
        yield from _said(artifact.parts)

    def _of_status(self, status: Any) -> Iterator[AgentEvent]:
        self.state = types.TaskState.Name(status.state).removeprefix("TASK_STATE_")
        text = "".join([part.text for part in status.message.parts])
        if self.state in ("FAILED", "CANCELED"):
            raise RuntimeError(f"the task of the remote agent has ended as {self.state}: {text}")
        if self.state == "REJECTED":
            yield RefusalDelta(text or "The agent does not take this task.")
        elif self.state == "WORKING" and text:
            yield Progress("step", status.message.message_id or text, text, done=True)
        elif self.state in ("COMPLETED", *ASKS) and status.message.parts:
            yield MessageBreak()
            yield from _said(status.message.parts)


def _said(parts: Iterable[Any]) -> Iterator[AgentEvent]:
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


def _message(messages: Sequence[Message], waiting: Mapping[str, Any] | None) -> Any:
    """What is told, as text, and what is in it besides; to the task that waits for it, if there is one."""
    said = [message for message in messages if isinstance(message, UserMessage)]
    if waiting is None and len(messages) > 1:
        text = transcript(messages)
    else:
        text = "\n\n".join([message.text for message in said])
    parts = [types.Part(text=text)] if text else []
    parts += [_part(part) for message in said for part in message.parts if not isinstance(part, TextPart)]
    where = {} if waiting is None else {"task_id": waiting["task"], "context_id": waiting["context"]}
    return types.Message(message_id=uuid.uuid4().hex, role=types.Role.ROLE_USER, parts=parts, **where)


def _part(part: InputPart) -> Any:
    if isinstance(part, TextPart):
        return types.Part(text=part.text)
    url = getattr(part, "url", None) or getattr(part, "file_url", None)
    about = {"media_type": part.media_type or "", "filename": getattr(part, "filename", None) or ""}
    if part.content is None and url is None:
        text = "This agent takes files as 'file_data' or by URL, not by 'file_id'."
        raise InvalidRequest(text, param="messages", code="invalid_value")
    return types.Part(url=url, **about) if part.content is None else types.Part(raw=part.content, **about)


def _check(parts: Iterable[Any], card: Any) -> None:
    """Raise InvalidRequest for what the card does not say that the agent takes."""
    modes = [*card.default_input_modes, *[mode for skill in card.skills for mode in skill.input_modes]]
    for part in parts:
        kind = part.media_type
        if kind and modes and not any([fnmatch(kind, mode) or kind.startswith(f"{mode}/") for mode in modes]):
            text = f"This agent does not take '{kind}'."
            raise InvalidRequest(text, param="messages", code="invalid_value")
