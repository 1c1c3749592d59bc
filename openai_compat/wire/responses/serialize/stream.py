"""Serializes a turn's events as one Response: the events of its stream, and the final object.

The non-streaming response is `response()` of the object that writes the stream, so both have the same content. The allowed
order of events is defined in `event_order`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, assert_never, cast

from ....errors import OpenAICompatError
from ....events import (
    Citation,
    Compacted,
    Finished,
    FinishReason,
    MediaDelta,
    MessageBreak,
    Notice,
    Paused,
    PendingCall,
    Progress,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from ...items.types import ID_PREFIXES, OTHER_PREFIX
from ...presentation import Presentation, approval_question
from ...reducer import Item, Texts, Usage
from ...serialize_messages import compaction_item
from ..event_types import LifecycleType
from ..response_types import (
    CallExtras,
    ImageGenerationCall,
    IncompleteDetails,
    McpApprovalRequest,
    OutputItem,
    Phase,
    ResponseCompaction,
    ResponseError,
    ResponseStatus,
)
from .calls import CallWriter, CustomCallWriter, FunctionCallWriter, McpCallWriter, status_event
from .items import EventWriter, ItemWriter, MessageWriter, ReasoningWriter, WholeItem
from .response import INCOMPLETE, RESPONSE_DEFAULTS, STEERED_DETAILS, error_event, error_of, usage_of
from .speech import SpeechWriter

ResponseVisibility: TypeAlias = Literal["items", "hidden", "reasoning", "text", "status"]
"""Where users see the agent's activity: in items that no client mistakes for calls to run, or as in chat."""


@dataclass(frozen=True, slots=True)
class ApprovedCall:
    """A call for which an earlier response requested approval."""

    request_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ResponseForm:
    """The data to create one Response.

    Attributes:
        id: `resp_…`.
        created: unix time in seconds.
        agent: the `server_label` of the agent's own calls.
        echo: fields of the request that the Response repeats.
        custom_tools: the names of the client's free-text tools.
        namespaces: maps the name under which the agent was offered a tool to its namespace and its name there.
        deferred_tools: the names of the client's tools whose results may come later, or never.
        approval_labels: the `server_label` of each `mcp` tool that the client declared. If the agent's label is among them,
            approvals are requested as items; otherwise in text.
        visibility: where users see the agent's activity.
        background: True if the response runs without a client waiting for it.
        new_id: creates an id with the given prefix.
        now: returns the unix time in seconds.
        include_logprobs: True if token log probabilities were requested.
        answers: False if the request wants no answer.
        approved: maps call ids to the calls for which approval was requested before this turn.
    """

    id: str
    created: int
    agent: str
    echo: Mapping[str, Any]
    new_id: Callable[[str], str]
    now: Callable[[], int]
    custom_tools: frozenset[str] = frozenset()
    namespaces: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    deferred_tools: frozenset[str] = frozenset()
    approval_labels: frozenset[str] = frozenset()
    visibility: ResponseVisibility = "items"
    background: bool = False
    include_logprobs: bool = False
    answers: bool = True
    approved: Mapping[str, ApprovedCall] = field(default_factory=dict[str, ApprovedCall])


class ResponseStream:
    """One Response under construction.

    Every method that returns bytes returns whole server-sent events, numbered consecutively.

    Attributes:
        status: the Response's status.
        usage: the tokens reported so far.
        steered: True if the turn ends early to make room for new user input.
        approvals: maps the ids of approval requests to the calls that wait for approval.
    """

    def __init__(self, form: ResponseForm) -> None:
        self._form = form
        self._out = EventWriter()
        self._items: list[ItemWriter] = []
        self._prose: MessageWriter | ReasoningWriter | None = None
        self._calls: dict[str, CallWriter] = {}
        self._view = None if form.visibility == "items" else Presentation(form.visibility)
        self._speech: SpeechWriter | None = None
        self._said = 0
        self._reason: FinishReason = "stop"
        self._error: ResponseError | None = None
        self._completed_at: int | None = None
        self.steered = False
        self.status: ResponseStatus = "in_progress"
        self.usage = Usage()
        self.approvals: dict[str, PendingCall] = {}

    @property
    def sequence(self) -> int:
        """The number of the last event; -1 before the first."""
        return self._out.sequence

    def write_no_events(self) -> None:
        """Stop serializing events: from now on only `response` is used."""
        self._out.quiet = True

    def undo_end(self) -> None:
        """Undo the last outcome, which was written but not sent, and did not happen."""
        self._out.sequence -= 1
        self.status, self._completed_at = "in_progress", None

    @property
    def output(self) -> list[OutputItem]:
        """The current output items, in the order in which they began."""
        return [writer.item() for writer in self._items]

    def response(self) -> dict[str, Any]:
        """Return the current Response, to be encoded with `dumps`."""
        form, running = self._form, self.status in ("queued", "in_progress")
        echo = {key: value for key, value in form.echo.items() if value is not None}
        return {
            # All 31 keys of Open Responses, with defaults for absent ones: strict clients require every key.
            **RESPONSE_DEFAULTS,
            **echo,
            "id": form.id,
            "object": "response",
            "created_at": form.created,
            "completed_at": self._completed_at,
            "status": self.status,
            "background": form.background,
            "error": self._error,
            "incomplete_details": self._incomplete_details if self.status == "incomplete" else None,
            "output": self.output,
            "usage": None if running else usage_of(self.usage),
        }

    @property
    def _incomplete_details(self) -> IncompleteDetails | None:
        """The reason why the Response would be incomplete if its turn ended now; None if complete."""
        return STEERED_DETAILS if self.steered and self._reason == "stop" else INCOMPLETE.get(self._reason)

    # lifecycle of the response

    def begin(self, *, queued: bool = False) -> bytes:
        """Return the first events. A queued response begins again, without `queued`, when its turn starts."""
        if queued:
            self.status = "queued"
            return self._write_lifecycle("response.created") + self._write_lifecycle("response.queued")
        self.status = "in_progress"
        created = self._write_lifecycle("response.created") if self.sequence < 0 else b""
        return created + self._write_lifecycle("response.in_progress")

    def finish(self) -> bytes:
        """Return the last events of a turn that ended on its own."""
        begun, last = self._begin_if_due(), self._end_items(self._reason)
        self.status = "completed" if self._incomplete_details is None else "incomplete"
        if self.status == "incomplete":
            return begun + last + self._write_lifecycle("response.incomplete")
        self._completed_at = self._form.now()
        # A response gets an empty message unless it has an item for the client to act on or to look at.
        if self._form.answers and not any([item.is_answer for item in self._items]):
            last += self._write_texts([]) + self._end_prose()
        return begun + last + self._write_lifecycle("response.completed")

    def fail(self, error: OpenAICompatError) -> bytes:
        """Return the last events of a failed turn."""
        cut = self._begin_and_break_off()
        self.status, self._error = "failed", error_of(error)
        # Both: Open Responses requires `response.failed` after `error`, and clients differ in which of the two they show.
        return cut + self._out.write(error_event(error)) + self._write_lifecycle("response.failed")

    def cancel(self) -> bytes:
        """Return the last events of a stopped turn. There is no event for cancellation: `response.incomplete` is sent."""
        cut = self._begin_and_break_off()
        self.status = "cancelled"
        return cut + self._write_lifecycle("response.incomplete")

    def feed(self, items: list[Item]) -> bytes:
        """Return the events for the agent's items."""
        view = self._view
        if type(items) is Texts:  # nearly always
            if view is not None:
                view.show(items)  # shown unchanged, but the view must know of them
            return self._begin_if_due() + self._write_texts(items)
        events = [self._begin_if_due()]
        for item in items:
            # A break ends an item here; chat's view would turn it into a blank line.
            if view is None or isinstance(item, MessageBreak):
                events.append(self._write_item(item))
            else:
                events += [self._write_item(one) for one in view.show([item])]
        return b"".join(events)

    def _begin_if_due(self) -> bytes:
        return self.begin() if self.status == "queued" or self.sequence < 0 else b""

    def _write_lifecycle(self, kind: LifecycleType) -> bytes:
        if self._out.quiet:  # a Response includes its whole output: it is not built if nothing is written
            self._out.sequence += 1
            return b""
        return self._out.write({"type": kind, "response": self.response()})

    # output of the agent

    def _write_item(self, item: Item) -> bytes:  # noqa: C901, PLR0912  (one arm for each event)
        match item:
            case str():
                return self._write_texts([item])
            case TextDelta():
                return self._write_text(item)
            case MessageBreak():
                return self._end_prose() if isinstance(self._prose, MessageWriter) else b""
            case ReasoningDelta():
                return (
                    self._write_reasoning(item.text) if item.text else b""
                )  # the signature of reasoning has no place here
            case RefusalDelta():
                begun, message = self._open_message(self._phase)
                return begun + message.refuse(item.text)
            case Citation():
                begun, message = self._open_message(self._phase)
                return begun + message.cite(item)
            case MediaDelta():
                return self._write_media(item)
            case ToolCallStarted():
                ended = self._end_prose()
                call = self._calls[item.call_id] = self._call_writer(item)
                return ended + self._begin_item(call)
            case ToolCallDelta():
                return self._calls[item.call_id].add(item.arguments)
            case ToolCallReady():
                return self._calls[item.call_id].end_arguments()
            case ToolResult():
                return self._write_result(item)
            case Progress():
                return self._write_status(item.status, done=item.done)
            case Notice():
                return self._write_status(item.message, done=True)
            case Compacted():
                made = cast("ResponseCompaction", compaction_item(item.summary, self._form.new_id))
                return self._write_whole_item(made, "response.compaction.compacting")
            case UsageReported():
                self.usage.add(item)
                return b""
            case Paused():
                asking = [call for call in item.pending if call.waits_for == "approval"]
                return b"".join([self._request_approval(call) for call in asking]) + self._end_items("stop")
            case Finished():
                self._reason = item.reason
                return self._end_items(item.reason)
            case _:
                assert_never(item)

    def _write_texts(self, texts: list[str]) -> bytes:
        begun, message = self._open_message(None)
        return begun + message.add_texts(texts)

    def _write_text(self, item: TextDelta) -> bytes:
        begun, message = self._open_message(item.phase)
        if item.logprobs and self._form.include_logprobs:
            return begun + message.add_with_logprobs(item.text, item.logprobs)
        return begun + message.add_texts([item.text])

    @property
    def _phase(self) -> Phase | None:
        return self._prose.phase if isinstance(self._prose, MessageWriter) else None

    def _open_message(self, phase: Phase | None) -> tuple[bytes, MessageWriter]:
        """Return the message to append text to, and the events that begin it."""
        # A phase applies to a whole message, so text of another phase starts a new message.
        if isinstance(self._prose, MessageWriter) and self._prose.phase == phase:
            return b"", self._prose
        ended = self._end_prose()
        self._prose = MessageWriter(self._out, self._new_id("message"), len(self._items), phase, self._said)
        return ended + self._begin_item(self._prose), self._prose

    def _write_reasoning(self, text: str) -> bytes:
        begun = b""
        if not isinstance(self._prose, ReasoningWriter):
            begun = self._end_prose()
            self._prose = ReasoningWriter(self._out, self._new_id("reasoning"), len(self._items))
            begun += self._begin_item(self._prose)
        return begun + self._prose.add(text)

    def _end_prose(self, status: Literal["completed", "incomplete"] = "completed") -> bytes:
        """End the open message or reasoning item; later text starts a new item, so that items stay in chronological order."""
        prose, self._prose = self._prose, None
        if isinstance(prose, MessageWriter):
            self._said = prose.end_offset
        return prose.close(status) if prose is not None else b""

    def _begin_item(self, writer: ItemWriter) -> bytes:
        self._items.append(writer)
        return writer.begin()

    def _write_whole_item(self, item: OutputItem, *steps: Any, first: OutputItem | None = None) -> bytes:
        ended = self._end_prose()
        writer = WholeItem(self._out, len(self._items), item, first)
        self._items.append(writer)
        return ended + writer.write_all(*steps)

    def _new_id(self, kind: str) -> str:
        return self._form.new_id(ID_PREFIXES.get(kind, OTHER_PREFIX))

    # tools

    def _call_writer(self, event: ToolCallStarted) -> CallWriter:
        out, index, call_id, name = self._out, len(self._items), event.call_id, event.name
        if event.executor != "client":
            return self._own_call_writer(call_id, name)
        own_name, extras = self._declared_tool(name)
        if name in self._form.custom_tools:
            return CustomCallWriter(out, self._new_id("custom_tool_call"), index, call_id, own_name, extras=extras)
        return FunctionCallWriter(out, self._new_id("function_call"), index, call_id, own_name, extras=extras)

    def _declared_tool(self, name: str) -> tuple[str, CallExtras]:
        """Return the client's own name for a tool, and the extra fields of its calls."""
        extras: CallExtras = {"async": True} if name in self._form.deferred_tools else {}
        if name not in self._form.namespaces:
            return name, extras
        namespace, own_name = self._form.namespaces[name]
        return own_name, {**extras, "namespace": namespace}

    def _own_call_writer(self, call_id: str, name: str) -> McpCallWriter:
        approved = self._form.approved.get(call_id)
        request_id = approved.request_id if approved is not None else None
        identity, index = self._new_id("mcp_call"), len(self._items)
        return McpCallWriter(
            self._out, identity, index, call_id, name, server_label=self._form.agent, approval=request_id
        )

    def _write_result(self, result: ToolResult) -> bytes:
        call = self._calls.get(result.call_id)
        begun = b""
        if not isinstance(call, McpCallWriter):  # made in an earlier turn, which waited for approval
            # The item is repeated: the call was run in this response.
            approved = self._form.approved.get(result.call_id) or ApprovedCall("", "tool", "{}")
            ended, call = self._end_prose(), self._own_call_writer(result.call_id, approved.name)
            begun = ended + self._begin_item(call) + call.add(approved.arguments)
        return begun + call.add_result(result)

    def _write_status(self, text: str, *, done: bool) -> bytes:
        """Return a status line for users, carried by `response.in_progress`, which clients know and ignore.

        Without the output so far: with many status lines, the same output would be sent over and over.
        """
        response: dict[str, Any] = {**self.response(), "output": []}
        return self._out.write(
            {"type": "response.in_progress", "response": response, "event": status_event(text, done=done)}
        )

    # items written as a whole

    def _write_media(self, event: MediaDelta) -> bytes:
        if event.media_type.startswith("audio/"):
            self._speech = self._speech or SpeechWriter(self._form.id, self._out)
            return self._speech.feed(event)
        picture: ImageGenerationCall = {
            "id": self._new_id("image_generation_call"),
            "type": "image_generation_call",
            "status": "completed",
            "result": base64.b64encode(event.data).decode(),
        }
        # Without the image, which `output_item.added` would send a second time.
        first: ImageGenerationCall = {**picture, "status": "in_progress", "result": None}
        kind = event.media_type.removeprefix("image/").removesuffix("+xml")
        if kind in ("png", "webp", "jpeg", "gif", "svg"):
            picture["output_format"] = kind
        steps = "response.image_generation_call.in_progress", "response.image_generation_call.completed"
        return self._write_whole_item(picture, *steps, first=first)

    # end of the turn

    def _request_approval(self, call: PendingCall) -> bytes:
        form, request_id = self._form, self._new_id("mcp_approval_request")
        self.approvals[request_id] = call
        begun = self._calls.get(call.call_id)
        # The call is not `done`: a client that shows its calls would take it for one that has run.
        ended = self._end_prose() + (begun.break_off() if begun is not None else b"")
        # Open WebUI and Codex do not show `mcp_approval_request`: it is for clients that declare an `mcp` tool.
        if form.agent not in form.approval_labels:
            return ended + self._write_texts([f"{approval_question(call)} [{request_id}]"]) + self._end_prose()
        request: McpApprovalRequest = {
            "id": request_id,
            "type": "mcp_approval_request",
            "server_label": form.agent,
            "name": call.name,
            "arguments": call.arguments,
        }
        return ended + self._write_whole_item(request)

    def _end_items(self, reason: FinishReason) -> bytes:
        """End all open items."""
        if reason in INCOMPLETE:
            return self._break_off_items()
        # Calls may stay open beside text and other calls, so all of them are checked.
        ended = self._end_prose() + b"".join([call.close("completed") for call in self._calls.values()])
        return ended if self._speech is None else ended + self._speech.end()

    def _break_off_items(self) -> bytes:
        """End all open items of a turn that broke off."""
        ended = self._end_prose("incomplete") + b"".join([call.break_off() for call in self._calls.values()])
        return ended if self._speech is None else ended + self._speech.end()

    def _begin_and_break_off(self) -> bytes:
        """End all open items of a turn that was cut off, perhaps before it began."""
        created = self._write_lifecycle("response.created") if self.sequence < 0 else b""
        return created + self._break_off_items()
