"""What agents say and clients send, at random: well-meant, malformed and hostile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

from hypothesis import strategies as st

from openai_compat.backend import AgentRequest, CustomTool, FunctionTool, Sampling, ToolChoice
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
"""Every code point, lone surrogates too."""

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
"""Anything an agent may yield, right or wrong: no order is kept."""

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
    """`sequence` in batches that end at the given positions; empty ones too."""
    edges = [0, *sorted([cut % (len(sequence) + 1) for cut in cuts]), len(sequence)]
    return [list(sequence[start:end]) for start, end in pairwise(edges)]


cuts = st.lists(st.integers(0, 60), max_size=8)

KEYS = """role content type text name id function arguments tools user system tool file image_url url custom input
str parameters allowed_tools mode stop n model messages tool_calls tool_call_id"""
keys = st.one_of(st.sampled_from(KEYS.split()), st.text("abz_", min_size=1, max_size=6))
SECRET = "s3cr3t"
"""Is part of every long value that clients send here, so it can be looked for in what they are answered."""
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
