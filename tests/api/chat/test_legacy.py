"""The legacy completions API: the same agents, text only."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from openai_compat import (
    AgentEvent,
    Finished,
    Limits,
    MediaDelta,
    MessageBreak,
    ReasoningDelta,
    RefusalDelta,
    ToolCallReady,
    ToolResult,
    UsageReported,
)
from openai_compat.messages import TextPart, UserMessage
from tests.connecting import Connect, Http, in_process
from tests.requirements import requirement
from tests.support.agents import Says

pytestmark = pytest.mark.anyio


async def parrot(prompt: str) -> str:
    return f"{prompt}!"


@requirement("completions.answer")
async def test_a_completion_is_the_agents_text(http: Http) -> None:
    agent = Says("Hello, ", "Bob", UsageReported(7, 2))
    async with http(agent) as client:
        answer = await client.post("/v1/completions", json={"model": "agent", "prompt": "Say hello"})
    body = json.loads(answer.content)
    assert body.pop("id").startswith("cmpl-")
    assert body.pop("created") > 1_700_000_000
    assert body == {
        "object": "text_completion",
        "model": "agent",
        "choices": [{"index": 0, "text": "Hello, Bob", "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }
    assert agent.request.messages == (UserMessage((TextPart("Say hello"),)),)
    assert agent.request.raw_messages == [{"role": "user", "content": "Say hello"}]


@requirement("completions.answer")
async def test_a_streamed_completion_adds_up_to_the_plain_one(connect: Connect) -> None:
    async with connect(Says("Hello, ", "Bob", UsageReported(7, 2))) as client:
        stream = await client.completions.create(
            model="agent", prompt="Hi", stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = [chunk async for chunk in stream]
    assert [chunk.choices[0].text for chunk in chunks] == ["Hello, ", "Bob", ""]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, "stop"]
    assert [chunk.usage for chunk in chunks] == [None, None, None]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 9
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in [*chunks, last]}) == 1


@requirement("completions.answer")
@pytest.mark.parametrize(
    ("items", "text", "reason"),
    [
        (["one", MessageBreak(), "two"], "one\n\ntwo", "stop"),
        ([ReasoningDelta("Hm."), "Yes."], "Yes.", "stop"),
        ([RefusalDelta("I will not.")], "I will not.", "stop"),
        (["Here: ", MediaDelta(b"x", "image/png")], "Here: ", "stop"),
        (["a", ToolCallReady("t", "own", "{}"), ToolResult("t", "1"), "b"], "a\n\nb", "stop"),
        (["a", Finished("length")], "a", "length"),
        (["a", Finished("content_filter")], "a", "content_filter"),
        ([], "", "stop"),
    ],
)
@in_process
async def test_only_what_is_text_is_shown_streamed_as_plain(
    items: list[AgentEvent | str], text: str, reason: str, connect: Connect
) -> None:
    async with connect(Says(*items)) as client:
        plain = (await client.completions.create(model="agent", prompt="Hi")).choices[0]
        stream = await client.completions.create(model="agent", prompt="Hi", stream=True)
        chunks = [chunk.choices[0] async for chunk in stream]
    assert (plain.text, plain.finish_reason) == (text, reason)
    assert ("".join([chunk.text for chunk in chunks]), chunks[-1].finish_reason) == (text, reason)


@requirement("completions.answer")
@in_process
async def test_stop_and_max_tokens_are_honoured(connect: Connect) -> None:
    async with connect(Says("one two three")) as client:
        stopped = await client.completions.create(model="agent", prompt="Hi", stop=" two")
        cut = await client.completions.create(model="agent", prompt="Hi", max_tokens=1)
    assert (stopped.choices[0].text, stopped.choices[0].finish_reason) == ("one", "stop")
    assert (cut.choices[0].text, cut.choices[0].finish_reason) == ("one ", "length")


@requirement("completions.prompts")
async def test_every_prompt_has_its_choices_in_order(connect: Connect) -> None:
    async with connect(parrot) as client:
        plain = await client.completions.create(model="agent", prompt=["a", "b"], n=2)
        stream = await client.completions.create(model="agent", prompt=["a", "b"], n=2, stream=True)
        texts = ["", "", "", ""]
        async for chunk in stream:
            texts[chunk.choices[0].index] += chunk.choices[0].text
    assert [(choice.index, choice.text) for choice in plain.choices] == [(0, "a!"), (1, "a!"), (2, "b!"), (3, "b!")]
    assert texts == ["a!", "a!", "b!", "b!"]


@requirement("completions.prompts")
@in_process
async def test_echo_begins_each_choice_with_its_prompt(connect: Connect) -> None:
    async with connect(Says("1", "2", paced=True)) as client:
        plain = await client.completions.create(model="agent", prompt=["a", "b"], echo=True)
        stream = await client.completions.create(model="agent", prompt="a", echo=True, stream=True)
        pieces = [chunk.choices[0].text async for chunk in stream]
    assert [choice.text for choice in plain.choices] == ["a12", "b12"]
    assert pieces == ["a", "1", "2", ""]


@requirement("completions.prompts")
@pytest.mark.parametrize(
    ("fields", "param"), [({"prompt": ["a", "b", "c"]}, "prompt"), ({"prompt": ["a", "b"], "n": 2}, "n")]
)
@in_process
async def test_more_answers_than_the_server_allows_are_refused(fields: Any, param: str, connect: Connect) -> None:
    async with connect(parrot, limits=Limits(choices=2)) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.completions.create(model="agent", **fields)
    assert (caught.value.param, caught.value.code) == (param, "invalid_value")


@requirement("completions.refused")
@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"suffix": "end"}, "suffix", "unsupported_parameter"),
        ({"logprobs": 1}, "logprobs", "unsupported_parameter"),
        ({"best_of": 2}, "best_of", "unsupported_parameter"),
        ({"prompt": [1, 2, 3]}, "prompt", "invalid_type"),
        ({"prompt": [[1, 2], [3]]}, "prompt", "invalid_type"),
        ({"prompt": []}, "prompt", "invalid_type"),
        ({"prompt": None}, "prompt", "invalid_type"),
        ({"prompt": 1}, "prompt", "invalid_type"),
        ({"logprobs": 6}, "logprobs", "invalid_value"),
        ({"best_of": 21}, "best_of", "invalid_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"echo": "yes"}, "echo", "invalid_type"),
    ],
)
@in_process
async def test_what_cannot_be_honoured_is_refused_by_name(fields: Any, param: str, code: str, connect: Connect) -> None:
    agent = Says("Hi")
    async with connect(agent) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.post("/completions", body={"model": "agent", "prompt": "x"} | fields, cast_to=object)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert agent.requests == []


@requirement("completions.refused")
@in_process
async def test_every_documented_parameter_is_accepted_where_it_changes_nothing(connect: Connect) -> None:
    every: dict[str, Any] = {
        "best_of": 1,
        "echo": False,
        "frequency_penalty": 0,
        "logit_bias": {},
        "logprobs": None,
        "max_tokens": 16,
        "n": 1,
        "presence_penalty": 0,
        "seed": 1,
        "stop": None,
        "stream": False,
        "stream_options": None,
        "suffix": None,
        "temperature": 1,
        "top_p": 1,
        "user": "bob",
    }
    agent = Says("Hi")
    async with connect(agent) as client:
        answer = await client.completions.create(model="agent", prompt="x", extra_body={"mine": 1}, **every)
    assert answer.choices[0].text == "Hi"
    assert agent.request.extra == {"mine": 1}
