"""Serializes events as Ollama's responses: lines of JSON, or one object.

The client's calls are written whole, at the very end: programs run a call as soon as they receive it, even if the answer
fails afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, assert_never

from ...backend import CHARACTERS_PER_TOKEN
from ...errors import AgentError
from ...events import (
    Citation,
    Compacted,
    Finished,
    MediaDelta,
    MessageBreak,
    Notice,
    Paused,
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
from ...messages import ToolCall
from ..json import dump_texts, dumps
from ..presentation import Presentation, Visibility
from ..reducer import Item, Texts, Usage

OwnToolsShown: TypeAlias = Literal["thinking", "text", "hidden"]
"""Where users see calls of the agent's own tools: in its reasoning, in its text, or nowhere."""

VISIBILITIES: Mapping[OwnToolsShown, Visibility] = {"thinking": "reasoning", "text": "text", "hidden": "hidden"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LineForm:
    """The format of a response.

    Attributes:
        model: the model name that the client requested.
        created_at: the time of the request, in RFC 3339 format.
        streams: True if the response is streamed.
        chat: True for a chat message, False for the plain text of `/api/generate`.
        thinking: True if the response includes the agent's reasoning.
        own_tools: where the agent's own tool calls are shown.
        most: maximum number of characters of the client's calls to hold back.
        estimate: returns the estimated token count of the request, for agents that report none.
    """

    model: str
    created_at: str
    streams: bool
    chat: bool = True
    thinking: bool = True
    own_tools: OwnToolsShown = "thinking"
    most: int = 50_000_000
    estimate: Callable[[], int] = int

    def line(self, said: Mapping[str, Any], **more: Any) -> bytes:
        """Return one line, or a whole response. `said` has the text and the fields beside it."""
        whole = {"message": {"role": "assistant", **said}} if self.chat else {**said, "response": said["content"]}
        whole.pop("content", None)
        return dumps({"model": self.model, "created_at": self.created_at, **whole, **more}) + b"\n"

    @property
    def keep_alive(self) -> bytes:
        """An empty delta as keep-alive. A blank line, the keep-alive of other streams, is an error for Ollama's clients."""
        return self.line({"content": ""}, done=False)

    def empty_response(self, reason: str) -> bytes:
        """Return the response to a request without a question."""
        return self.line({"content": ""}, done_reason=reason, done=True)


@dataclass(frozen=True, slots=True)
class Durations:
    """Durations in nanoseconds: in total, and until the agent's first output."""

    total: int = 0
    first: int = 0


@dataclass(slots=True)
class _WholeResponse:
    """A non-streaming response under construction."""

    texts: list[str] = field(default_factory=list[str])
    thinking: list[str] = field(default_factory=list[str])
    logprobs: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])


class LineWriter:
    """Serializes the agent's items into one response. Text is written into a template of bytes."""

    def __init__(self, form: LineForm, ask: Callable[[Paused], Sequence[Item]]) -> None:
        """`ask` returns the items that ask users about calls waiting for approval."""
        self._form = form
        self._view = Presentation(VISIBILITIES[form.own_tools], refusal_as_text=True, ask=ask)
        before, self._after = form.keep_alive.split(b'""}' if form.chat else b'""')
        self._before, self._after = before, (b"}" if form.chat else b"") + self._after
        self._between = self._after + self._before
        self._whole = _WholeResponse()
        self._characters = 0
        self._calls: dict[str, ToolCall | None] = {}
        self._held = 0
        self._reason = "stop"

    def feed(self, items: list[Item]) -> bytes:
        """Return the lines for these items; empty if there is nothing to show, or if the response is not streamed."""
        shown = self._view.show(items)
        return (
            self._write_texts(shown) if type(shown) is Texts else b"".join([self._write_item(item) for item in shown])
        )

    def end(self, usage: Usage, durations: Durations) -> bytes:
        """Return the last lines of a stream, or the whole response."""
        calls = [
            {"id": call.call_id, "function": {"index": index, "name": call.name, "arguments": call.input}}
            for index, call in enumerate([call for call in self._calls.values() if call is not None])
        ]
        said: dict[str, Any] = {"tool_calls": calls} if calls else {}
        last: dict[str, Any] = {"done": True, "done_reason": self._reason, **self._counts(usage, durations)}
        if self._form.streams:
            called = self._form.line({"content": "", **said}, done=False) if calls else b""
            return called + self._form.line({"content": ""}, **last)
        whole = self._whole
        if whole.thinking:
            said["thinking"] = "".join(whole.thinking)
        if whole.logprobs:
            last["logprobs"] = whole.logprobs
        return self._form.line({"content": "".join(whole.texts), **said}, **last)

    def _counts(self, usage: Usage, durations: Durations) -> dict[str, int]:
        """Return token counts and durations as Ollama reports them; estimated if the agent reports no usage."""
        read = usage.input_tokens if usage.reported else self._form.estimate()
        said = usage.output_tokens if usage.reported else -(-self._characters // CHARACTERS_PER_TOKEN)
        return {
            "total_duration": durations.total,
            "load_duration": 0,
            "prompt_eval_count": read,
            "prompt_eval_duration": durations.first,
            "eval_count": said,
            "eval_duration": durations.total - durations.first,
        }

    def _write_texts(self, texts: list[str]) -> bytes:
        self._characters += sum(map(len, texts))
        if not self._form.streams:
            self._whole.texts += texts
            return b""
        return self._before + self._between.join(dump_texts(texts)) + self._after

    def _write_item(self, item: Item) -> bytes:  # noqa: C901  (one arm for each event)
        match item:
            case str():
                return self._write_texts([item])
            case TextDelta():
                return self._write_text(item)
            case ReasoningDelta():
                return self._write_reasoning(item.text) if item.text and self._form.thinking else b""
            case RefusalDelta():
                return self._write_texts([item.text])
            case MediaDelta():
                text = item.transcript or f"[A file of type {item.media_type}: this API has no place for it.]"
                return self._write_texts([text])
            case ToolCallStarted():
                self._calls[item.call_id] = None  # calls keep the order in which they began
                return b""
            case ToolCallReady():
                return self._add_call(item)
            case Finished():
                self._reason = "length" if item.reason == "length" else "stop"
                return b""
            case ToolCallDelta() | ToolResult() | Paused() | MessageBreak() | UsageReported():
                return b""
            case Citation() | Progress() | Notice() | Compacted():
                return b""  # Ollama's format has no place for them
            case _:
                assert_never(item)

    def _write_text(self, item: TextDelta) -> bytes:
        if not item.logprobs:
            return self._write_texts([item.text]) if item.text else b""
        logprobs = [_to_logprob(token) for token in item.logprobs]
        self._characters += len(item.text)
        if self._form.streams:
            return self._form.line({"content": item.text}, done=False, logprobs=logprobs)
        self._whole.texts.append(item.text)
        self._whole.logprobs += logprobs
        return b""

    def _write_reasoning(self, text: str) -> bytes:
        if self._form.streams:
            return self._form.line({"content": "", "thinking": text}, done=False)
        self._whole.thinking.append(text)
        return b""

    def _add_call(self, item: ToolCallReady) -> bytes:
        self._held += len(item.arguments)
        if self._held > self._form.most:
            raise AgentError("The agent's answer is too long.", status=502, code="answer_too_large")
        self._calls[item.call_id] = ToolCall(item.call_id, item.name, item.arguments)
        return b""


def _to_logprob(token: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a token's log probability from OpenAI's format, which agents use."""
    return {
        "token": token["token"],
        "logprob": token["logprob"],
        "top_logprobs": [
            {"token": other["token"], "logprob": other["logprob"]} for other in token.get("top_logprobs") or ()
        ],
    }
