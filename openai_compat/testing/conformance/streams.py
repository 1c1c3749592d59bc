"""Checks of a stream's format: the details that openai clients rely on, chunk by chunk."""

from __future__ import annotations

import json
from typing import Any, cast

import anyio

from ..answer import DONE
from ..client_call import Call
from ..faults import slow
from .base import Examination, expect, skip

FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})


class StreamChecks(Examination):
    """Checks of a streamed answer."""

    def test_a_stream_is_sent_as_an_event_stream(self) -> None:
        """A stream has the headers of an event stream, and no length or encoding.

        Clients and proxies recognize a stream by its headers, and proxies buffer bodies with a length or an encoding.
        To fix: send `content-type: text/event-stream` and `cache-control: no-cache`; no content-length, no compression.
        """
        answer = self.streamed.answer
        kind = (answer.header("content-type") or "").partition(";")[0].strip()
        expect(kind == "text/event-stream", f"the stream's content-type is {kind!r}, not text/event-stream")
        cached = answer.header("cache-control") or ""
        expect("no-cache" in cached or "no-store" in cached, "the stream lacks `cache-control: no-cache`")
        for name in ("content-length", "content-encoding"):
            expect(answer.header(name) is None, f"a stream must not have a {name} header")

    def test_a_stream_is_framed_as_one_data_line_for_each_event(self) -> None:
        r"""A stream consists of one `data: ` line per event, each followed by a blank line.

        Hand-written clients split at `\n\n` and read the text after `data: `; some of them lose anything else. To fix: write
        `data: {json}\n\n` for each event: no `event:` or `id:` lines, no `\r`, comments (`: …`) only between events, and a blank
        line after the last event too.
        """
        body = self.streamed.answer.body
        expect(b"\r" not in body, r"lines must end with \n, not \r\n")
        expect(body.endswith(b"\n\n"), f"the last event has no blank line after it: {body[-60:]!r}")
        for event in body.removesuffix(b"\n\n").split(b"\n\n"):
            comment = all([line.startswith(b":") for line in event.split(b"\n")])
            single = event.startswith(b"data: ") and b"\n" not in event
            expect(comment or single, f"not one `data: ` line: {event[:200]!r}")

    def test_every_event_of_a_stream_is_a_chunk(self) -> None:
        """Every event of a stream is a complete chunk of a chat completion.

        Typed clients validate chunks, and end the stream with an error if a key is missing. To fix: send each event as
        `{"id", "object": "chat.completion.chunk", "created", "model", "choices": [one]}`, and the choice as
        `{"index", "delta", "finish_reason"}`, with a null finish_reason until the end.
        """
        answer = self.streamed.answer
        for payload in answer.data[: answer.data.index(DONE)] if DONE in answer.data else answer.data:
            wrong = _chunk_fault(payload)
            expect(not wrong, f"{wrong}: {payload[:300]}")
        expect(answer.chunks, "the stream has no chunk at all")

    def test_every_chunk_has_the_same_identity(self) -> None:
        """All chunks of a stream have the same `id`, the same `created`, and the requested `model`.

        Clients join chunks by their id. To fix: set the three values once per answer, and copy them into every chunk.
        """
        chunks = self.streamed.answer.chunks
        for key in ("id", "created", "model"):
            values = {json.dumps(chunk.get(key)) for chunk in chunks}
            expect(len(values) <= 1, f"`{key}` changes within one stream: {', '.join(sorted(values))}")
        models = {chunk.get("model") for chunk in chunks}
        expect(models <= {self.model_name}, f"asked for the model {self.model_name!r}, the chunks name {models}")

    def test_a_stream_says_the_role_once_and_first(self) -> None:
        """The first delta of a stream has the role, and no other delta has one.

        The SDK concatenates the values of deltas: a role in each gives "assistantassistant…", and none leaves it empty.
        Put `"role": "assistant"` into the first delta, and into no other.
        """
        roles = [delta.get("role") for delta in self.streamed.answer.deltas]
        expect(roles[:1] == ["assistant"], f'the first delta must say `"role": "assistant"`; it says {roles[:1]}')
        again = [role for role in roles[1:] if role is not None]
        expect(not again, f"the role is said {len(again) + 1} times")

    def test_a_stream_says_one_finish_reason_and_says_it_last(self) -> None:
        """A stream has exactly one finish_reason, in its last chunk with a choice.

        Clients treat an answer without a finish_reason as cut off, and stop reading, or start a new answer, at each one. To fix:
        send one of the known reasons once, at the end, and null before.
        """
        answer = self.streamed.answer
        reasons = answer.finish_reasons
        expect(len(reasons) == 1, f"there must be one finish_reason, there are {len(reasons)}: {reasons}")
        expect(set(reasons) <= FINISH_REASONS, f"{reasons[0]!r} is no finish_reason; known: {sorted(FINISH_REASONS)}")
        last = answer.choices[-1].get("finish_reason")
        expect(last is not None, "after the finish_reason there is another chunk with a choice")

    def test_a_stream_ends_with_done_and_nothing_after_it(self) -> None:
        """A stream ends with `data: [DONE]`, once, and nothing after it.

        `[DONE]` proves to clients that nothing was lost, and they stop reading there. To fix: send it last, then end the body.
        """
        answer = self.streamed.answer
        expect(DONE in answer.data, "the stream does not end with `data: [DONE]`")
        expect(answer.data[-1] == DONE, f"data after [DONE]: {answer.data[-1][:200]}")
        expect(answer.data.count(DONE) == 1, "[DONE] is there more than once")
        expect(answer.complete, "the body goes on after [DONE]")

    def test_a_piece_is_sent_before_the_next_one_is_made(self) -> None:
        """Each piece is sent before the next one is made.

        If this fails, something between agent and client collects the answer and sends it at once. To fix: remove the buffering
        middleware, the compression, or a `list(…)` around the agent's output.
        """
        if not self.can_be_watched:
            skip("the agent cannot be watched inside an ASGI application; hand over the agent or its Server")
        if self.pieces_to_text >= self.pieces:
            skip("the agent says this text in one piece; set a `prompt` that it answers in several")
        shown = self.run(self._is_first_text_shown)
        expect(shown, f"the first text was said, and {self.patience:g} s later the client had not got it")

    async def _is_first_text_shown(self) -> bool:
        gate = anyio.Event()
        subject = self.subject(lambda agent: slow(agent, gate, after=self.pieces_to_text))
        watched = self.watched(subject)
        body = self.body(self.prompt, stream=True)
        async with Call(subject.target, self.chat(body)) as call:
            if watched is not None:
                await (await watched.begun()).said(self.pieces_to_text)
            with anyio.move_on_after(self.patience):
                while not has_output(call.answer.deltas) and await call.read():
                    pass
        return has_output(call.answer.deltas)

    def test_usage_comes_in_one_last_chunk_and_only_when_asked_for(self) -> None:
        """Usage is sent in the last chunk, and only if the client requests it.

        Clients look for usage in the last chunk, the one without choices; elsewhere they count it twice. To fix: with
        `stream_options.include_usage`, send `{"choices": [], "usage": {…}}` before [DONE], and null in the chunks before.
        """
        unasked = [chunk for chunk in self.streamed.answer.chunks if chunk.get("usage")]
        expect(not unasked, "usage was sent although the client did not ask for it")
        chunks = self.with_usage.answer.chunks
        places = [number for number, chunk in enumerate(chunks, 1) if chunk.get("usage")]
        expect(
            places == [len(chunks)], f"usage belongs into the last of {len(chunks)} chunks; it is in {places or 'none'}"
        )
        expect(chunks[-1]["choices"] == [], "the chunk with the usage must have `choices: []`")


def has_output(deltas: list[dict[str, Any]]) -> bool:
    """True if the deltas contain visible output: text, reasoning or a refusal."""
    return any([delta.get("content") or delta.get("reasoning_content") or delta.get("refusal") for delta in deltas])


def _chunk_fault(payload: str) -> str:
    def refuse(constant: str) -> None:  # NaN and Infinity are not JSON
        raise ValueError(constant)

    try:
        chunk = json.loads(payload, parse_constant=refuse)
    except ValueError:
        return "not JSON"
    if not isinstance(chunk, dict):
        return "not a JSON object"
    return _fields_fault(cast("dict[str, Any]", chunk))


def _fields_fault(chunk: dict[str, Any]) -> str:
    if chunk.get("object") != "chat.completion.chunk":
        return "`object` is not chat.completion.chunk"
    for key, kind in (("id", str), ("created", int), ("model", str), ("choices", list)):
        if not isinstance(chunk.get(key), kind):
            return f"`{key}` is not there, or of the wrong type"
    if len(chunk["choices"]) != 1:
        return "" if chunk.get("usage") else "`choices` must have one entry"
    choice = chunk["choices"][0]
    missing = [key for key in ("index", "delta", "finish_reason") if key not in choice]
    return f"the choice lacks {', '.join(missing)}" if missing else ""
