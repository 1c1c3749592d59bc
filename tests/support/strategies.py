"""Random agent events and client requests: well-meant, malformed and hostile."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

from hypothesis import strategies as st

from openai_compat.agent_request import AgentRequest, CustomTool, FunctionTool, Sampling, ToolChoice
from openai_compat.events import (
    AgentEvent,
    Citation,
    Finished,
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
from openai_compat.messages import TextPart, UserMessage

T = TypeVar("T")

HOSTILE = (
    "\n\ndata: [DONE]\n\n",
    "data: {}\r\n\r\n",
    "\r",
    "\x00",
    "\ufeff",
    "\u2028\u2029\x85",
    "\ud83d",
    "\ude00",
    "\ud800\udfff",
    "</script>",
    '"}]}',
    "\\",
    "𝄞👩‍👩‍👧",
)
characters = st.characters(exclude_categories=())
"""Every code point, including lone surrogates."""

texts = st.one_of(st.sampled_from(HOSTILE), st.text("abE. ", max_size=6), st.text(characters, max_size=6))
numbers = st.integers(0, 1000)
call_ids = st.sampled_from(["a", "b", "c", "", "\ud800"])
tool_names = st.sampled_from(["get_weather", "find", "write_code", "own_tool", "withheld"])
executors = st.sampled_from([None, "agent", "client"])
media = st.one_of(
    st.builds(MediaDelta, st.binary(max_size=8), st.just("audio/wav"), texts),
    st.builds(MediaDelta, st.binary(max_size=8), st.just("image/png")),
)
token_logprobs = st.builds(
    dict, token=texts, logprob=st.floats(allow_nan=True), bytes=st.none(), top_logprobs=st.just([])
)
events: st.SearchStrategy[AgentEvent] = st.one_of(
    st.builds(TextDelta, texts, st.one_of(st.none(), st.lists(token_logprobs, max_size=2))),
    st.builds(MessageBreak),
    st.builds(ReasoningDelta, texts),
    st.builds(RefusalDelta, texts),
    st.builds(Citation, texts, texts, numbers, numbers),
    media,
    st.builds(ToolCallStarted, call_ids, tool_names, executors),
    st.builds(ToolCallDelta, call_ids, texts),
    st.builds(ToolCallReady, call_ids, tool_names, texts, executors),
    st.builds(ToolResult, call_ids, texts, st.booleans(), st.booleans()),
    st.builds(Progress, texts, texts, texts, st.booleans()),
    st.builds(Notice, texts),
    st.builds(UsageReported, numbers, numbers, st.none() | numbers, st.none() | numbers),
    st.builds(Paused, st.lists(st.builds(PendingCall, call_ids, tool_names, texts), max_size=2).map(tuple)),
    st.builds(Finished, st.sampled_from(["stop", "length", "content_filter", "tool_calls"])),
)
items: st.SearchStrategy[AgentEvent | str] = st.one_of(texts, events)
"""Anything an agent may yield, right or wrong, in any order."""

tools = (FunctionTool("get_weather"), FunctionTool("find"), CustomTool("write_code"))
tool_choices = st.one_of(
    st.just(ToolChoice(frozenset())),
    st.just(ToolChoice(frozenset(["get_weather", "find", "write_code"]))),
    st.just(ToolChoice(frozenset(["find"]), withheld=frozenset(["withheld"]))),
    st.just(ToolChoice(frozenset(["get_weather", "write_code"]), required=True)),
)
samplings = st.builds(
    Sampling,
    max_tokens=st.none() | st.integers(1, 4),
    stop=st.lists(st.sampled_from(["E", "ab", "b.", "a b", "\n\n"]), max_size=3).map(tuple),
)


def asked(choice: ToolChoice, sampling: Sampling, *, parallel: bool = True) -> AgentRequest:
    return AgentRequest(
        model="agent",
        messages=(UserMessage((TextPart("hi"),)),),
        raw_messages=[{"role": "user", "content": "hi"}],
        tools=tuple([tool for tool in tools if tool.name in choice.names]),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        sampling=sampling,
    )


requests = st.builds(
    lambda choice, sampling, parallel: asked(choice, sampling, parallel=parallel),
    tool_choices,
    samplings,
    st.booleans(),
)


def split(sequence: Sequence[T], cuts: list[int]) -> list[list[T]]:
    """`sequence` in batches that end at the given positions; some may be empty."""
    edges = [0, *sorted([cut % (len(sequence) + 1) for cut in cuts]), len(sequence)]
    return [list(sequence[start:end]) for start, end in pairwise(edges)]


cuts = st.lists(st.integers(0, 60), max_size=8)

KEYS = """role content type text name id function arguments tools user system tool file image_url url custom input
str parameters allowed_tools mode stop n model messages tool_calls tool_call_id"""
keys = st.one_of(st.sampled_from(KEYS.split()), st.text("abz_", min_size=1, max_size=6))
SECRET = "s3cr3t"
"""Part of every long value that clients send here, so that tests can search the answers for it."""
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.integers(10**18, 10**400),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text("abc ", max_size=5),
    st.just(SECRET * 300),
    st.text(characters, max_size=5),
)
json_values: st.SearchStrategy[Any] = st.recursive(
    values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
)

CHAT_BODIES: tuple[dict[str, Any], ...] = (
    {
        "model": "agent",
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                    {"type": "file", "file": {"file_id": "file-1", "filename": "a.pdf"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "find", "arguments": "{}"}},
                    {"id": "2", "type": "custom", "custom": {"name": "write_code", "input": "x"}},
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": "found"},
            {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "ran"}]},
        ],
        "tools": [
            {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}, "strict": True}},
            {"type": "custom", "custom": {"name": "write_code", "format": {"type": "text"}}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "find"}},
    },
    {
        "model": "agent",
        "messages": [
            {"role": "user", "content": "hi", "name": "Bob"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "user", "content": "please"},
        ],
        "tools": [{"type": "function", "function": {"name": "find"}}],
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "find"}}]},
        },
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
        "stream": True,
        "stream_options": {"include_usage": True},
        "stop": ["a", "b"],
        "temperature": 0.5,
        "top_p": 1,
        "n": 2,
        "seed": 7,
        "max_tokens": 100,
        "logit_bias": {"50256": -100},
        "metadata": {"a": "b"},
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"},
        "reasoning_effort": "low",
        "logprobs": True,
        "top_logprobs": 3,
        "user": {"id": 1},
        "unknown_field": {"kept": [1]},
    },
)
COMPLETION_BODIES: tuple[dict[str, Any], ...] = (
    {"model": "agent", "prompt": ["one", "two"], "echo": True, "n": 2, "best_of": 2, "stop": "x", "max_tokens": 5},
    {"model": "agent", "prompt": "one", "stream": True, "stream_options": {"include_usage": False}, "logprobs": None},
)


def places(value: Any, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of every place inside a JSON value, except the value itself."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [place for step, item in inner for place in [(*here, step), *places(item, (*here, step))]]


@st.composite
def mutated(draw: st.DrawFn, bodies: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """A valid body with up to three places replaced, removed or extended."""
    body: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(1, 3))):
        found = places(body)
        if not found:
            break
        *way, last = draw(st.sampled_from(found))
        parent: Any = body
        for step in way:
            parent = parent[step]
        match draw(st.sampled_from(["replace", "remove", "add", "wrap"])):
            case "replace":
                parent[last] = draw(json_values)
            case "remove":
                del parent[last]
            case "add" if isinstance(parent, dict):
                parent[draw(keys)] = draw(json_values)
            case "add":
                parent.append(draw(json_values))
            case _:
                parent[last] = draw(st.sampled_from([[parent[last]], {draw(keys): parent[last]}]))
    return body
