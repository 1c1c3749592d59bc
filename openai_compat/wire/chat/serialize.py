"""Serializes events as Chat Completions: as the chunks of a stream, or as one whole response."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

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
from ..json import DONE, dump_texts, dumps, sse
from ..presentation import TOOL_KIND
from ..reducer import FinalMessage, Item, Texts, Usage
from ..usage import usage_object
from .response_types import (
    Annotation,
    AssistantReply,
    Audio,
    AudioDelta,
    ChatChoice,
    ChatCompletion,
    ChatFinishReason,
    Delta,
    Image,
    Logprobs,
    ToolCallChunk,
)

AUDIO_LIFETIME = 3600
"""Seconds until `expires_at` of audio output; the server stores no audio."""


TEXT_ANSWER = (
    b'{"id":"%s","object":"chat.completion","created":%d,"model":%s,"system_fingerprint":null,"choices":[{"index":0,'
    b'"message":{"role":"assistant","content":%s,"refusal":null,"annotations":[]},"logprobs":null,'
    b'"finish_reason":"%s"}],"usage":%s}'
)
CONTENT = b'{"content":'
HEAD = slice(None, -len(CONTENT))
"""The part of a chunk's prefix that does not depend on the delta."""
ROLE = b'{"role":"assistant","content":"","refusal":null}'
ROLE_WITHOUT_TEXT = b'{"role":"assistant","content":null,"refusal":null}'
"""The delta of the first chunk, with the same keys as OpenAI's; content is null if the message does not begin with text."""
TAIL = b',"logprobs":null,"finish_reason":null}]}\n\n'
TAIL_BEFORE_USAGE = b',"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
CHUNK_ENDS = {False: (TAIL, b"}" + TAIL), True: (TAIL_BEFORE_USAGE, b"}" + TAIL_BEFORE_USAGE)}
"""Ends of a chunk: after a delta, and after a text. With `include_usage` every chunk has `usage`, null except in the last."""
ZERO_USAGE = dumps(usage_object(Usage()))


@dataclass(slots=True)  # not frozen: that takes three times as long to create
class ChatForm:
    """The fields shared by all parts of one chat response.

    Attributes:
        id: `chatcmpl-…`, the same in every chunk.
        created: unix time in seconds.
        model: the model name that the client requested.
        custom_tools: the names of the client's free-text tools.
        include_usage: True if a stream ends with a usage chunk.
    """

    id: str
    created: int
    model: str
    custom_tools: frozenset[str] = frozenset()
    include_usage: bool = False

    def chunk_fields(self) -> dict[str, Any]:
        """Return the first fields of every chunk."""
        named = {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}
        # OpenRouter's SDKs reject every chunk without the key; no tested client rejects null.
        return {**named, "system_fingerprint": None}

    def stream(self, index: int) -> ChatStream:
        """Return the serializer of one streamed choice."""
        return ChatStream(self, index)

    def stream_end(self, usage: Usage) -> bytes:
        """Return the bytes after the last choice: the usage chunk, if requested, and `[DONE]`."""
        # Only on request: a chunk without choices could break clients that read `choices[0]` of every chunk.
        if not self.include_usage:
            return DONE
        return sse({**self.chunk_fields(), "choices": [], "usage": usage_object(usage)}) + DONE

    def whole_response(self, messages: Sequence[FinalMessage]) -> bytes:
        """Return a whole response with one choice per message."""
        if len(messages) == 1 and messages[0].is_only_text:
            return self._text_response(messages[0])
        usage = Usage()
        for message in messages:
            usage.add(message.usage)
        body: ChatCompletion = {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            # As in chunks: OpenRouter's SDKs reject a response without the key.
            "system_fingerprint": None,
            "choices": [_choice(self, index, message) for index, message in enumerate(messages)],
            "usage": usage_object(usage),
        }
        return dumps(body)

    def _text_response(self, message: FinalMessage) -> bytes:
        """Return a whole response for one text-only message, the most common case, in a third of the time."""
        model, text = dump_texts([self.model, message.text])
        usage = ZERO_USAGE if not message.usage.reported else dumps(usage_object(message.usage))
        return TEXT_ANSWER % (self.id.encode(), self.created, model, text, message.finish_reason.encode(), usage)


class ChatStream:
    """One streamed choice: serializes items to bytes.

    Text, by far the most common item, is written into a template of bytes; nothing is built or validated for it.
    """

    _custom: frozenset[str] = frozenset()

    def __init__(self, form: ChatForm, index: int) -> None:
        self._form = form
        # The prefix is per stream and stays in memory while the stream is open; the suffix is shared by all streams.
        self._before_text = b'data: %b,"choices":[{"index":%d,"delta":%b' % (
            dumps(form.chunk_fields())[:-1],
            index,
            CONTENT,
        )
        self._tail, self._after_text = CHUNK_ENDS[form.include_usage]
        self._indexes: dict[str, int] = {}
        self._at_once: dict[str, Progress] = {}
        self._begun = False
        self._citations: list[Annotation] = []
        self._images = 0
        self._speech: _SpeechEncoder | None = None

    def feed(self, items: list[Item]) -> bytes:
        """Return the chunks for these items, after the role chunk if it is still due. Empty if there is nothing to show."""
        if type(items) is Texts:  # nearly always
            return self._text_chunks(items) if self._begun else self.begin() + self._text_chunks(items)
        parts = [self._write_item(item) for item in items]
        data = b"".join(parts)
        if self._begun or not data:
            return data
        first = next(item for item, part in zip(items, parts, strict=True) if part)
        return self.begin(text=not isinstance(first, ToolCallStarted | RefusalDelta | MediaDelta)) + data

    def begin(self, *, text: bool = True) -> bytes:
        """Return the role chunk unless it was sent. Pass `text=False` if the message does not begin with text."""
        if self._begun:
            return b""
        # The role is sent once: SDK helpers concatenate strings, so a role in each chunk became "assistantassistant".
        self._begun = True
        return self._before_text[HEAD] + (ROLE if text else ROLE_WITHOUT_TEXT) + self._tail

    def _text_chunks(self, texts: list[str]) -> bytes:
        before, after = self._before_text, self._after_text
        if len(texts) == 1:
            return before + dump_texts(texts)[0] + after
        return before + (after + before).join(dump_texts(texts)) + after

    def _write_item(self, item: Item) -> bytes:  # noqa: C901, PLR0912  (one arm for each event)
        match item:
            case Finished():  # first, since every turn has one
                return self._finish_chunk(item.reason)
            case str():
                return self._text_chunks([item])
            case TextDelta():
                return self._delta_chunk({"content": item.text}, _logprobs(item.logprobs))
            case ReasoningDelta():
                return self._delta_chunk({"reasoning_content": item.text}) if item.text else b""
            case RefusalDelta():
                return self._delta_chunk({"refusal": item.text})
            case Citation():
                self._citations.append(_annotation(item))
                return b""
            case MediaDelta():
                return self._media_chunk(item)
            case ToolCallStarted() | ToolCallDelta():
                return self._call_chunk(item)
            case Progress():
                return self._progress_chunk(item)
            case Notice():
                return self._status_chunk(item.message, done=True)
            case Compacted():
                return self._status_chunk("The conversation was shortened.", done=True)
            # A turn that only waits for an approval has no calls: with "tool_calls", clients would look for some.
            case Paused():
                return self._finish_chunk("tool_calls" if self._indexes else "stop")
            # Calls have no end marker: clients take a call as complete when the next one begins or the choice finishes.
            case MessageBreak() | ToolCallReady() | ToolResult() | UsageReported():
                return b""
            case _:
                assert_never(item)

    def _delta_chunk(self, delta: Delta, logprobs: Logprobs | None = None) -> bytes:
        if logprobs is None:
            return self._before_text[HEAD] + dumps(delta) + self._tail
        return (
            self._before_text[HEAD]
            + dumps(delta)
            + self._tail.replace(b'"logprobs":null', b'"logprobs":' + dumps(logprobs), 1)
        )

    def _call_chunk(self, event: ToolCallStarted | ToolCallDelta) -> bytes:
        chunk: ToolCallChunk
        if isinstance(event, ToolCallStarted):
            # The id and the name go into the first delta only: the SDK's accumulator concatenates them. Every delta needs the
            # index.
            index = self._indexes[event.call_id] = len(self._indexes)
            if event.name in self._form.custom_tools:
                self._custom |= {event.call_id}
                chunk = {"index": index, "id": event.call_id, "type": "custom"}
                chunk["custom"] = {"name": event.name, "input": ""}
            else:
                chunk = {"index": index, "id": event.call_id, "type": "function"}
                chunk["function"] = {"name": event.name, "arguments": ""}
        elif event.call_id in self._custom:
            chunk = {"index": self._indexes[event.call_id], "custom": {"input": event.arguments}}
        else:
            chunk = {"index": self._indexes[event.call_id], "function": {"arguments": event.arguments}}
        return self._delta_chunk({"tool_calls": [chunk]})

    def _media_chunk(self, event: MediaDelta) -> bytes:
        if event.media_type.startswith("audio/"):
            self._speech = self._speech or _SpeechEncoder(self._form)
            return self._delta_chunk({"audio": self._speech.feed(event)})
        self._images += 1
        return self._delta_chunk({"images": [_image(event, self._images - 1)]})

    def _progress_chunk(self, item: Progress) -> bytes:
        """Return the status chunk. Open WebUI shows only the last line, so tools that run at once share one."""
        if item.kind != TOOL_KIND:
            return self._status_chunk(item.status, done=item.done)
        if all([tool.done for tool in self._at_once.values()]):
            self._at_once.clear()
        self._at_once[item.id] = item
        text = " · ".join([tool.status for tool in self._at_once.values()])
        return self._status_chunk(text, done=all([tool.done for tool in self._at_once.values()]))

    def _status_chunk(self, text: str, *, done: bool) -> bytes:
        event = {"type": "status", "data": {"description": text, "done": done}}
        # An empty delta: Open WebUI draws `event`, all other clients skip a chunk with nothing to add.
        return self._before_text[HEAD] + b"{}" + self._tail[:-3] + b',"event":' + dumps(event) + b"}\n\n"

    def _finish_chunk(self, reason: ChatFinishReason) -> bytes:
        # Citations are sent together: the SDK's accumulator cannot extend a list whose entries have no index.
        last: Delta = {}
        if self._citations:
            last["annotations"] = self._citations
        if self._speech is not None and self._speech.rest:
            last["audio"] = self._speech.end()
        tail = self._tail.replace(b'"finish_reason":null', b'"finish_reason":"%s"' % reason.encode(), 1)
        return self._before_text[HEAD] + (dumps(last) if last else b"{}") + tail


class _SpeechEncoder:
    """Encodes audio as base64 chunks that clients can concatenate: all but the last hold whole groups of three bytes."""

    def __init__(self, form: ChatForm) -> None:
        self._form = form
        self._begun = False
        self.rest = b""

    def feed(self, event: MediaDelta) -> AudioDelta:
        data = self.rest + event.data
        # Three bytes make four characters: an incomplete group is held back, or padding would end up inside the data.
        whole = len(data) - len(data) % 3
        self.rest = data[whole:]
        delta: AudioDelta = {"data": base64.b64encode(data[:whole]).decode(), "transcript": event.transcript}
        if not self._begun:
            self._begun = True
            delta["id"], delta["expires_at"] = _audio_identity(self._form)
        return delta

    def end(self) -> AudioDelta:
        return {"data": base64.b64encode(self.rest).decode()}


def _choice(form: ChatForm, index: int, message: FinalMessage) -> ChatChoice:
    return {
        "index": index,
        "message": _reply(form, message),
        "logprobs": _logprobs(message.logprobs),
        "finish_reason": message.finish_reason,
    }


def _reply(form: ChatForm, message: FinalMessage) -> AssistantReply:
    """Return the message. Empty keys are left out, not null: strict clients reject `tool_calls: null`."""
    # OpenAI sends null beside calls and refusals; in an empty answer it must be text, since clients read it unconditionally.
    silent = not (message.refusal or message.client_calls or message.media)
    reply: AssistantReply = {
        "role": "assistant",
        "content": message.text if message.text or silent else None,
        # OpenAI's document requires the key, null or not.
        "refusal": message.refusal or None,
        "annotations": [_annotation(citation) for citation in message.citations],
    }
    if message.reasoning:
        reply["reasoning_content"] = message.reasoning
    if message.client_calls:
        reply["tool_calls"] = [
            {"id": call.call_id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
            if call.name in form.custom_tools
            else {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.client_calls
        ]
    if message.media:
        speech = [piece for piece in message.media if piece.media_type.startswith("audio/")]
        images = [piece for piece in message.media if not piece.media_type.startswith("audio/")]
        if speech:
            reply["audio"] = _audio(form, speech)
        if images:
            reply["images"] = [_image(piece, index) for index, piece in enumerate(images)]
    return reply


def _annotation(citation: Citation) -> Annotation:
    return {
        "type": "url_citation",
        "url_citation": {
            "start_index": citation.start_index,
            "end_index": citation.end_index,
            "url": citation.url,
            "title": citation.title,
        },
    }


def _image(media: MediaDelta, index: int) -> Image:
    data = base64.b64encode(media.data).decode()
    return {"index": index, "type": "image_url", "image_url": {"url": f"data:{media.media_type};base64,{data}"}}


def _audio(form: ChatForm, pieces: Sequence[MediaDelta]) -> Audio:
    data = base64.b64encode(b"".join([piece.data for piece in pieces])).decode()
    transcript = "".join([piece.transcript for piece in pieces])
    identity, expires_at = _audio_identity(form)
    return {"id": identity, "data": data, "expires_at": expires_at, "transcript": transcript}


def _audio_identity(form: ChatForm) -> tuple[str, int]:
    # The id only needs to be unique: nothing is stored under it.
    return form.id.replace("chatcmpl-", "audio_"), form.created + AUDIO_LIFETIME


def _logprobs(tokens: Sequence[Mapping[str, Any]] | None) -> Logprobs | None:
    return {"content": list(tokens), "refusal": None} if tokens else None
