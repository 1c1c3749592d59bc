"""Hypothesis strategies for valid chat requests, and for all lists of events that an agent may yield.

```python
@given(event_lists())
def test_my_ui_draws_anything(events):
    with served(ScriptedBackend(events)) as agent: ...
```
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

from ..backend import Capabilities
from ..events import (
    AgentEvent,
    Citation,
    Compacted,
    Finished,
    MediaDelta,
    MessageBreak,
    Notice,
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
from ..package import needs

with needs(__name__):
    from hypothesis import strategies as st

__all__ = ("chat_requests", "event_lists")

Item: TypeAlias = AgentEvent | str
Draw: TypeAlias = st.DrawFn
Body: TypeAlias = dict[str, Any]

# Lone surrogates cannot be sent as UTF-8.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,15}", fullmatch=True)
JSON_OBJECTS = st.dictionaries(NAMES, st.none() | st.booleans() | st.integers() | TEXT, max_size=3)
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


def event_lists(client_tools: Sequence[str] = ()) -> st.SearchStrategy[list[Item]]:
    """Events of one turn, in any order that the contract allows.

    `client_tools` are the names of tools in the request: calls for the client to run only use these.
    """
    return _event_lists(tuple(client_tools))


@st.composite
def _event_lists(draw: Draw, client_tools: tuple[str, ...]) -> list[Item]:
    kinds: list[st.SearchStrategy[list[Item]]] = [_EVENTS.map(lambda event: [event]), _own_calls()]
    if client_tools:
        kinds.append(_calls(st.sampled_from(client_tools)))
    groups = draw(st.lists(st.one_of(kinds), max_size=6))
    events: list[Item] = [_with_id(event, f"call_{number}") for number, group in enumerate(groups) for event in group]
    return events + draw(st.sampled_from(_ENDS))


_TOKENS = st.integers(0, 10_000)
_EVENTS: st.SearchStrategy[Item] = st.one_of(
    TEXT,
    st.builds(TextDelta, TEXT),
    st.builds(ReasoningDelta, TEXT),
    st.builds(RefusalDelta, TEXT),
    st.just(MessageBreak()),
    st.builds(Citation, st.just("https://example.org/"), TEXT, st.integers(0, 5), st.integers(5, 10)),
    st.builds(MediaDelta, st.binary(max_size=20), st.just("image/png")),
    st.builds(Progress, st.just("step"), NAMES, TEXT, st.booleans()),
    st.builds(Notice, TEXT),
    st.builds(Compacted, TEXT),
    st.builds(UsageReported, _TOKENS, _TOKENS, st.none() | st.just(0), st.none() | st.just(0), st.none() | st.just(0)),
)
_ENDS: list[list[Item]] = [[], [Finished()], [Finished("length")], [Finished("content_filter")]]


@st.composite
def _own_calls(draw: Draw) -> list[Item]:
    call = draw(_calls(NAMES.map("own_".__add__)))
    return [*call, ToolResult("", draw(TEXT), draw(st.booleans()))] if draw(st.booleans()) else call


@st.composite
def _calls(draw: Draw, names: st.SearchStrategy[str]) -> list[Item]:
    """One call: announced or not, its arguments in pieces or whole. `_with_id` sets its id."""
    name, arguments = draw(names), json.dumps(draw(JSON_OBJECTS))
    ready = ToolCallReady("", name, arguments)
    if draw(st.booleans()):
        return [ready]
    cut = draw(st.integers(0, len(arguments)))
    return [ToolCallStarted("", name), *[ToolCallDelta("", p) for p in (arguments[:cut], arguments[cut:])], ready]


def _with_id(event: Item, call_id: str) -> Item:
    match event:
        case ToolCallStarted():
            return ToolCallStarted(call_id, event.name, event.executor)
        case ToolCallDelta():
            return ToolCallDelta(call_id, event.arguments)
        case ToolCallReady():
            return ToolCallReady(call_id, event.name, event.arguments, event.executor)
        case ToolResult():
            return ToolResult(call_id, event.output, event.is_error, event.denied)
        case _:
            return event


def chat_requests(model: str = "agent", capabilities: Capabilities | None = None) -> st.SearchStrategy[Body]:
    """Valid bodies of `POST /v1/chat/completions` that only use features in `capabilities`."""
    return _chat_requests(model, capabilities or Capabilities())


@st.composite
def _chat_requests(draw: Draw, model: str, can: Capabilities) -> Body:
    body: Body = {"model": model, "messages": draw(_conversations(can))}
    body |= draw(st.fixed_dictionaries({}, optional=_SAMPLING))
    if draw(st.booleans()):
        body |= {"stream": True, **draw(st.sampled_from(_STREAM_OPTIONS))}
    if can.client_tools and draw(st.booleans()):
        body |= draw(_tools())
    if can.structured_output and draw(st.booleans()):
        body["response_format"] = draw(st.sampled_from(_FORMATS))
    return body


_SAMPLING: dict[Any, st.SearchStrategy[Any]] = {
    "temperature": st.none() | st.floats(0, 2),
    "top_p": st.none() | st.floats(0.01, 1),
    "max_tokens": st.none() | st.integers(1, 10_000),
    "max_completion_tokens": st.none() | st.integers(1, 10_000),
    "stop": st.none() | st.text("xyz", min_size=1, max_size=3) | st.just(["END", "\n\n\n"]),
    "seed": st.none() | st.integers(0, 2**31),
    "presence_penalty": st.none() | st.floats(-2, 2),
    "frequency_penalty": st.none() | st.floats(-2, 2),
    "n": st.none() | st.just(1),
    "user": st.none() | TEXT,
    "metadata": st.none() | st.dictionaries(NAMES, TEXT, max_size=2),
    "reasoning_effort": st.none() | st.sampled_from(["none", "low", "high"]),
    "x_unknown": st.none() | JSON_OBJECTS,
}
_STREAM_OPTIONS: list[Body] = [{}, {"stream_options": None}, {"stream_options": {"include_usage": True}}]
_FORMATS: list[Body] = [
    {"type": "text"},
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}},
]


@st.composite
def _tools(draw: Draw) -> Body:
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    tools = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in names]
    choice = draw(st.sampled_from([None, "auto", "none"]))
    return {"tools": tools, **({} if choice is None else {"tool_choice": choice})}


@st.composite
def _conversations(draw: Draw, can: Capabilities) -> list[Body]:
    """Optional instructions, some turns, and the user's last message."""
    messages: list[Body] = []
    if draw(st.booleans()):
        messages.append({"role": draw(st.sampled_from(["system", "developer"])), "content": draw(TEXT)})
    for number in range(draw(st.integers(0, 3))):
        messages += [draw(_user_messages(can)), *draw(_replies(number))]
    return [*messages, draw(_user_messages(can))]


@st.composite
def _user_messages(draw: Draw, can: Capabilities) -> Body:
    # Never blank, since a server may require a non-empty user message.
    text = draw(TEXT.map(lambda text: f"Q{text}"))
    if draw(st.booleans()):
        return {"role": "user", "content": text}
    parts: list[Body] = [{"type": "text", "text": text}]
    if can.vision and draw(st.booleans()):
        parts.append({"type": "image_url", "image_url": {"url": PIXEL}})
    return {"role": "user", "content": parts}


@st.composite
def _replies(draw: Draw, number: int) -> list[Body]:
    """Messages of the assistant: text, or a tool call with its result and then text."""
    said: Body = {"role": "assistant", "content": draw(TEXT)}
    if draw(st.booleans()):
        return [said]
    function = {"name": draw(NAMES), "arguments": json.dumps(draw(JSON_OBJECTS))}
    call = {"id": f"call_{number}", "type": "function", "function": function}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    return [calling, {"role": "tool", "tool_call_id": call["id"], "content": draw(TEXT)}, said]
