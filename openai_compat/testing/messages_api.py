"""The part of Anthropic's Messages API that a scripted model needs: `POST /v1/messages`, streamed and plain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from ..agent_request import AgentRequest, FunctionTool, ToolChoice
from ..api.answer_form import Framing
from ..api.delivery import WholeAnswer
from ..api.exchange import Exchange
from ..api.routing import Api, Operation, Route
from ..api.services import Services
from ..errors import InvalidRequest, OpenAICompatError
from ..events import (
    Finished,
    Paused,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    UsageReported,
)
from ..state.ids import new_id
from ..stores.port import TurnCommit
from ..turns.plan import Taken, TurnPlan
from ..wire.anthropic_messages.errors import error_type
from ..wire.anthropic_messages.events import BlockEvents, BlockFold, BlockWriter, event
from ..wire.json import dumps
from ..wire.reducer import Item

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}

BLOCKS: Mapping[str, Mapping[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": "scripted"},
}
"""The initial objects of text and thinking blocks."""


class ModelErrors:
    """The error format of a model's API, which leaves it to its client whether to retry."""

    def body(self, error: OpenAICompatError, request_id: str) -> bytes:
        """`{"type": "error", "error": {"type", "message"}, "request_id"}`."""
        return dumps({"type": "error", "error": _error_fields(error), "request_id": request_id})

    def headers(self, error: OpenAICompatError) -> list[tuple[str, str]]:
        """`Retry-After`, if the error has a retry delay, and the error's own headers."""
        waits = [] if error.retry_after is None else [("Retry-After", f"{error.retry_after:g}")]
        return [*waits, *error.headers.items()]

    def frame(self, error: OpenAICompatError, request_id: str) -> bytes:
        """The error as the last event of a stream."""
        return event("error", error=_error_fields(error), request_id=request_id)


def _error_fields(error: OpenAICompatError) -> dict[str, str]:
    return {"type": error_type(error.status), "message": error.message}


class MessageTurn(TurnPlan[bytes]):
    """One message of the model. Unlike an agent server, it streams its calls as they are made."""

    def __init__(self, services: Services, exchange: Exchange, request: AgentRequest) -> None:
        agent, backend = services.models.agent(request.model, exchange.principal)
        delivery = exchange if request.stream else WholeAnswer(exchange)
        super().__init__(delivery, exchange, id=new_id("msg_"), agent=agent, backend=backend, requests=[request])
        self._stream = request.stream
        self._fold = BlockFold()
        self._blocks: BlockWriter = BlockEvents() if request.stream else self._fold
        self._open = ""
        self._counts: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0}
        self._reason = "end_turn"
        self._begun = False

    def feed(self, taken: Taken) -> bytes:
        """The items as events; a plain answer is made of the same blocks at the end."""
        out = b"".join([self._item_events(item) for _, items in taken for item in items])
        return self.idle() + out if out else b""

    def idle(self) -> bytes:
        """`message_start`, unless it was already sent: clients expect it before any other event."""
        if self._begun or not self._stream:
            return b""
        self._begun = True
        return event("message_start", message=self._message([], None, {**self._counts, "output_tokens": 1}))

    def _item_events(self, item: Item) -> bytes:
        match item:
            case str():
                return self._open_block("text") + self._blocks.add_texts([item])
            case TextDelta(text=text):
                return self._open_block("text") + self._blocks.add_texts([text])
            case ReasoningDelta(text=text):
                return self._open_block("thinking") + self._blocks.add_delta("thinking_delta", "thinking", text)
            case ToolCallStarted(call_id=call_id, name=name):
                closed, self._open = self._close_block(), "tool_use"
                return closed + self._blocks.start({"type": "tool_use", "id": call_id, "name": name, "input": {}})
            case ToolCallDelta(arguments=arguments):
                return self._blocks.add_delta("input_json_delta", "partial_json", arguments)
            case ToolCallReady():
                return self._close_block()
            case UsageReported():
                self._set_usage(item)
                return b""
            case Paused():
                self._reason = "tool_use"
                return b""
            case Finished(reason=reason):
                self._reason = STOP_REASONS[reason]
                return b""
            case _:
                return b""

    def _set_usage(self, usage: UsageReported) -> None:
        read, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
        self._counts = {
            "input_tokens": usage.input_tokens - read - written,  # this API counts them separately
            "output_tokens": usage.output_tokens,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
        }
        if usage.reasoning_tokens is not None:
            self._counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}

    def _message(self, content: list[Any], reason: str | None, usage: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.requests[0].model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": usage,
        }

    def _open_block(self, kind: str) -> bytes:
        """Open a block of this kind, unless one is open."""
        if self._open == kind:
            return b""
        closed, self._open = self._close_block(), kind
        return closed + self._blocks.start({**BLOCKS[kind]})

    def _close_block(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return self._blocks.stop()

    async def ending(self) -> tuple[TurnCommit | None, bytes]:
        """The last events, or the whole message."""
        last = self._close_block()
        if not self._stream:
            return None, dumps(self._message(self._fold.blocks, self._reason, self._counts))
        delta = {"stop_reason": self._reason, "stop_sequence": None}
        usage = {name: count for name, count in self._counts.items() if name.startswith("output")}
        return None, self.idle() + last + event("message_delta", delta=delta, usage=usage) + event("message_stop")


async def create(services: Services, exchange: Exchange) -> None:
    """Answer `POST /v1/messages` like Anthropic's API, with the output of the script."""
    data = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    try:
        body: dict[str, Any] = from_json(data)
        model, said, stream = body["model"], body["messages"], body.get("stream", False)
        offered = [tool["name"] for tool in body.get("tools") or () if "input_schema" in tool]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InvalidRequest("A request has a model and messages, and its tools have names.") from None
    tools = tuple([FunctionTool(name) for name in offered])
    request = AgentRequest(
        model=model,
        messages=(),
        raw_messages=said,
        tools=tools,
        tool_choice=ToolChoice(frozenset(offered)),
        stream=stream,
        principal=exchange.principal,
    )
    await services.live.runner.run(MessageTurn(services, exchange, request))


MESSAGES = Api(
    name="messages",
    routes=[Route("/v1/messages", {"POST": Operation(create)}, described=False)],
    errors=ModelErrors(),
    framing=Framing("text/event-stream; charset=utf-8"),
    prefix="/v1/messages",
    key_headers=("x-api-key",),
)
