"""The parameters of a chat request: accepted, checked, and honoured or refused."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.to_thread
import openai
import pytest

from openai_compat import Capabilities, Finished, Limits, ReasoningDelta, RunContext, Sampling, TextDelta, UsageReported
from openai_compat.wire.chat.parse import EXTRA_PARAMETERS
from tests.connecting import Connect, in_process
from tests.requirements import requirement
from tests.support.agents import EVERYTHING, HELLO, PROMPT_ONLY, Says

pytestmark = pytest.mark.anyio

LOOK: Any = {"type": "function", "function": {"name": "look"}}

EVERY_PARAMETER: dict[str, Any] = {
    "audio": {"voice": "alloy", "format": "wav"},
    "frequency_penalty": -2,
    "logit_bias": {"50256": -100, "1": 100},
    "logprobs": True,
    "max_completion_tokens": 10,
    "max_tokens": 20,
    "metadata": {"k" * 64: "v" * 512},
    "modalities": ["text", "audio"],
    "moderation": {"model": "omni-moderation-latest"},
    "n": 1,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "Hi"},
    "presence_penalty": 2.0,
    "prompt_cache_key": "key",
    "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "xhigh",
    "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
    "safety_identifier": "s" * 64,
    "seed": -(2**63),
    "service_tier": "fast",
    "stop": ["a", "b", "c", "d"],
    "store": False,
    "stream": False,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "temperature": 2,
    "tool_choice": "auto",
    "tools": [LOOK],
    "top_logprobs": 20,
    "top_p": 0,
    "user": "bob",
    "verbosity": "low",
    "web_search_options": {"search_context_size": "low"},
}


async def finish(client: openai.AsyncOpenAI, **ask: Any) -> tuple[str, str]:
    """Text and finish_reason of an answer, which are the same streamed and whole."""
    plain = (await client.chat.completions.create(model="agent", messages=HELLO, **ask)).choices[0]
    stream = await client.chat.completions.create(model="agent", messages=HELLO, stream=True, **ask)
    chunks = [chunk.choices[0] async for chunk in stream]
    text = "".join([chunk.delta.content or "" for chunk in chunks])
    reason = chunks[-1].finish_reason
    assert (text, reason) == (plain.message.content or "", plain.finish_reason)
    assert reason is not None
    return text, reason


# all of them


@requirement("params.all-accepted")
async def test_every_documented_parameter_is_accepted_and_none_is_taken_for_unknown(connect: Connect) -> None:
    agent = Says("Hi")
    async with connect(agent) as client:
        answer = await client.chat.completions.create(model="agent", messages=HELLO, **EVERY_PARAMETER)
    assert answer.choices[0].message.content == "Hi"
    request = agent.request
    assert request.sampling == Sampling(
        temperature=2,
        top_p=0,
        max_tokens=10,
        stop=("a", "b", "c", "d"),
        seed=-(2**63),
        frequency_penalty=-2,
        presence_penalty=2.0,
        logit_bias={"50256": -100, "1": 100},
        top_logprobs=20,
        reasoning_effort="xhigh",
        verbosity="low",
    )
    assert set(request.extra) == set(EXTRA_PARAMETERS)
    assert request.response_format == EVERY_PARAMETER["response_format"]
    assert request.audio == {"voice": "alloy", "format": "wav"}
    assert request.modalities == {"text", "audio"}
    assert [tool.name for tool in request.tools] == ["look"]
    assert request.parallel_tool_calls is False


@requirement("params.null-is-absent")
@in_process
async def test_null_is_the_same_as_leaving_a_parameter_out(connect: Connect) -> None:
    with_nulls, without = Says("Hi"), Says("Hi")
    nulls = dict.fromkeys([*EVERY_PARAMETER, "functions", "function_call"])
    async with connect({"with": with_nulls, "without": without}) as client:
        await client.chat.completions.create(model="with", messages=HELLO, extra_body=nulls)
        await client.chat.completions.create(
            model="with", messages=HELLO, extra_body={"stream_options": {"include_usage": None}}
        )
        await client.chat.completions.create(model="without", messages=HELLO)
    expected = {name: getattr(without.request, name) for name in ("sampling", "tools", "tool_choice", "extra", "user")}
    for request in with_nulls.requests:
        assert {name: getattr(request, name) for name in expected} == expected


# ranges

DEEP_SCHEMA = {"type": "json_schema", "json_schema": {"name": "not a name"}}
OUT_OF_RANGE: list[tuple[dict[str, Any], str]] = [
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"top_p": 1.1}, "top_p"),
    ({"frequency_penalty": -2.1}, "frequency_penalty"),
    ({"frequency_penalty": 2.1}, "frequency_penalty"),
    ({"presence_penalty": -2.1}, "presence_penalty"),
    ({"presence_penalty": 2.1}, "presence_penalty"),
    ({"n": 0}, "n"),
    ({"n": -1}, "n"),
    ({"n": 129}, "n"),
    ({"n": 10**9}, "n"),
    ({"n": 1.5}, "n"),
    ({"n": True}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -2}, "max_tokens"),
    ({"max_tokens": 4096.5}, "max_tokens"),
    ({"max_tokens": "10"}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
    ({"logprobs": 1}, "logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    ({"top_logprobs": 5}, "top_logprobs"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1"),
    ({"logit_bias": {"1": -101}}, "logit_bias.1"),
    ({"logit_bias": {"1": "x"}}, "logit_bias.1"),
    ({"logit_bias": [1]}, "logit_bias"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", ""]}, "stop[1]"),
    ({"stop": ["a", 1]}, "stop[1]"),
    ({"stop": 1}, "stop"),
    ({"seed": 2**63}, "seed"),
    ({"seed": -(2**63) - 1}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"stream": "true"}, "stream"),
    ({"stream": 1}, "stream"),
    ({"stream_options": True}, "stream_options"),
    ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
    ({"user": 1}, "user"),
    ({"safety_identifier": "s" * 65}, "safety_identifier"),
    ({"metadata": {"k" * 65: "v"}}, "metadata." + "k" * 65),
    ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ({"metadata": {str(i): "v" for i in range(17)}}, "metadata"),
    ({"metadata": {"k": 1}}, "metadata.k"),
    ({"modalities": []}, "modalities"),
    ({"modalities": ["video"]}, "modalities[0]"),
    ({"modalities": ["text", "audio"]}, "audio"),
    ({"modalities": ["text", "audio"], "audio": {"format": "wav"}}, "audio.voice"),
    ({"reasoning_effort": "utmost"}, "reasoning_effort"),
    ({"verbosity": "chatty"}, "verbosity"),
    ({"service_tier": "gold"}, "service_tier"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ({"store": "no"}, "store"),
    ({"response_format": {"type": "yaml"}}, "response_format.type"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": DEEP_SCHEMA}, "response_format.json_schema.name"),
    ({"tools": {}}, "tools"),
    ({"tools": [{"type": "web"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "x" * 65}}]}, "tools[0].function.name"),
    ({"tools": [LOOK, LOOK]}, "tools[1].function.name"),
    ({"tools": [LOOK] * 1025}, "tools"),
    ({"tool_choice": "sometimes", "tools": [LOOK]}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    (
        {"tool_choice": {"type": "function", "function": {"name": "other"}}, "tools": [LOOK]},
        "tool_choice.function.name",
    ),
    ({"tool_choice": {"type": "function"}, "tools": [LOOK]}, "tool_choice.function"),
    ({"tool_choice": {"type": "custom", "custom": {"name": "x"}}, "tools": [LOOK]}, "tool_choice.custom.name"),
    (
        {
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "x"}]}},
            "tools": [LOOK],
        },
        "tool_choice.allowed_tools.tools",
    ),
    (
        {
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "maybe", "tools": [LOOK]}},
            "tools": [LOOK],
        },
        "tool_choice.allowed_tools.mode",
    ),
    ({"model": ""}, "model"),
    ({"model": 4}, "model"),
    ({"model": None}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": "Hello"}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": ["Hello"]}, "messages[0]"),
    ({"messages": [{"content": "Hello"}]}, "messages[0].role"),
    ({"messages": [{"role": "robot", "content": "Hello"}]}, "messages[0].role"),
    ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
    ({"messages": [*HELLO, {"role": "user"}]}, "messages[1].content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": {}}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
]


def test_the_table_of_ranges_is_wide() -> None:
    assert len({param.partition(".")[0].partition("[")[0] for _, param in OUT_OF_RANGE}) >= 22


@requirement("params.ranges")
@in_process
async def test_what_is_out_of_range_is_a_400_that_names_the_parameter_and_runs_no_agent(connect: Connect) -> None:
    agent = Says("Hi")
    wrong: list[Any] = []
    async with connect(agent) as client:
        for fields, param in OUT_OF_RANGE:
            body: dict[str, Any] = {"model": "agent", "messages": HELLO} | fields
            try:
                await client.post("/chat/completions", body=body, cast_to=object)
                wrong.append((fields, "accepted"))
            except openai.BadRequestError as error:
                if (error.param, error.type) != (param, "invalid_request_error") or not error.code:
                    wrong.append((fields, error.body))
    assert wrong == []
    assert agent.requests == []


@requirement("params.ranges")
@pytest.mark.parametrize("missing", ["model", "messages"])
@in_process
async def test_a_missing_parameter_is_named(missing: str, connect: Connect) -> None:
    body = {name: value for name, value in {"model": "agent", "messages": HELLO}.items() if name != missing}
    async with connect(Says("Hi")) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.post("/chat/completions", body=body, cast_to=object)
    assert caught.value.body == {
        "message": f"Missing required parameter: '{missing}'.",
        "type": "invalid_request_error",
        "param": missing,
        "code": "missing_required_parameter",
    }


@requirement("params.deprecated-functions")
@pytest.mark.parametrize(
    ("fields", "param", "instead"),
    [
        ({"functions": [{"name": "look"}]}, "functions", "tools"),
        ({"function_call": "auto"}, "function_call", "tool_choice"),
        (
            {"messages": [*HELLO, {"role": "assistant", "function_call": {"name": "f", "arguments": ""}}, *HELLO]},
            "messages[1].function_call",
            "tool_calls",
        ),
    ],
)
@in_process
async def test_deprecated_function_calling_is_refused_with_the_name_of_what_replaced_it(
    fields: Any, param: str, instead: str, connect: Connect
) -> None:
    async with connect(Says("Hi")) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.post("/chat/completions", body={"model": "agent", "messages": HELLO} | fields, cast_to=object)
    assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
    assert f"use '{instead}'" in caught.value.message


# capabilities that an agent has to declare


@requirement("params.undeclared")
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [LOOK], "tool_choice": "required"}, "tool_choice"),
    ],
)
@in_process
async def test_what_the_agent_has_not_declared_is_refused_by_name(fields: Any, param: str, connect: Connect) -> None:
    agent = Says("Hi", can=PROMPT_ONLY)
    async with connect(agent) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="agent", messages=HELLO, **fields)
    assert (caught.value.param, caught.value.code) == (param, "unsupported_parameter")
    assert agent.requests == []


@requirement("params.response-format")
@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}}},
    ],
)
@in_process
async def test_response_format_is_handed_to_the_agent_as_it_was_sent(response_format: Any, connect: Connect) -> None:
    agent = Says("{}")
    async with connect(agent) as client:
        await client.chat.completions.create(model="agent", messages=HELLO, response_format=response_format)
    assert agent.request.response_format == response_format


# stop


@requirement("params.stop")
@pytest.mark.parametrize(
    ("pieces", "stop", "text"),
    [
        (["one two three"], " two", "one"),
        (["one <", "en", "d", "> two"], "<end>", "one "),
        (["a", "b", "c", "d"], "bc", "a"),
        (["one two"], ["x", "two", "one"], ""),
        (["abab", "c"], "ababc", ""),
        (["aab", "aac"], "aac", "aab"),
        (["é", "🤖", "x"], "🤖", "é"),
        (["cut", "\n", "\n", "off"], "\n\n", "cut"),
        ([TextDelta("one "), TextDelta("STOP two")], ["STOP"], "one "),
    ],
)
@in_process
async def test_nothing_of_a_stop_sequence_or_after_it_is_seen(
    pieces: Any, stop: Any, text: str, connect: Connect
) -> None:
    async with connect(Says(*pieces)) as client:
        assert await finish(client, stop=stop) == (text, "stop")


@requirement("params.stop")
@pytest.mark.parametrize(
    "pieces", [["one <", "en", "d two"], ["almost <end"], ["<", "<", "<e"], ["x", ReasoningDelta("<end>"), "y"]]
)
@in_process
async def test_what_only_looked_like_a_stop_sequence_is_not_lost(pieces: Any, connect: Connect) -> None:
    async with connect(Says(*pieces)) as client:
        text = "".join([piece for piece in pieces if isinstance(piece, str)])
        assert await finish(client, stop="<end>") == (text, "stop")


@requirement("params.stop")
@pytest.mark.parametrize("plain_function", [False, True])
async def test_the_agent_is_stopped_where_its_answer_ends(plain_function: bool, connect: Connect) -> None:
    stopped = threading.Event()

    async def endless(prompt: str) -> AsyncIterator[str]:
        try:
            yield "said STOP"
            await anyio.sleep_forever()
        finally:
            stopped.set()

    def endless_thread(prompt: str, context: RunContext) -> Iterator[str]:
        try:
            yield "said STOP"
            while not context.wait_cancelled(10):
                yield "not said"
        finally:
            stopped.set()

    async with connect(endless_thread if plain_function else endless) as client:
        answer = await client.chat.completions.create(model="agent", messages=HELLO, stop="STOP")
        assert answer.choices[0].message.content == "said "
        assert await anyio.to_thread.run_sync(stopped.wait, 10)


@requirement("params.stop")
@in_process
async def test_one_of_two_answers_that_has_met_its_end_is_stopped_while_the_other_goes_on(connect: Connect) -> None:
    stopped = threading.Event()

    async def agent(context: RunContext) -> AsyncIterator[str]:
        if context.turn_id.endswith("-1"):
            ended = await anyio.to_thread.run_sync(stopped.wait, 10)
            yield "went on" if ended else "the other was not stopped"
            return
        try:
            yield "said STOP"
            await anyio.sleep_forever()
        finally:
            stopped.set()

    async with connect(agent) as client:
        answer = await client.chat.completions.create(model="agent", messages=HELLO, stop="STOP", n=2)
    assert [choice.message.content for choice in answer.choices] == ["said ", "went on"]


# length


@requirement("params.max-tokens")
@pytest.mark.parametrize(
    "limit", [{"max_tokens": 2}, {"max_completion_tokens": 2}, {"max_completion_tokens": 2, "max_tokens": 9}]
)
async def test_an_endless_answer_is_cut_at_the_limit_by_our_estimate_of_a_token(limit: Any, connect: Connect) -> None:
    async def endless(prompt: str) -> AsyncIterator[str]:
        while True:
            yield "abc"
            await anyio.sleep(0)

    async with connect(endless) as client:
        assert await finish(client, **limit) == ("abcabcab", "length")


@requirement("params.max-tokens")
@pytest.mark.parametrize(("text", "reason"), [("12345678", "stop"), ("123456789", "length")])
@in_process
async def test_an_answer_that_just_fits_is_not_cut(text: str, reason: str, connect: Connect) -> None:
    async with connect(Says(text)) as client:
        assert await finish(client, max_tokens=2) == ("12345678", reason)


@requirement("params.max-tokens")
@in_process
async def test_thinking_counts_against_the_limit(connect: Connect) -> None:
    async with connect(Says(ReasoningDelta("123456"), "abc")) as client:
        answer = await client.chat.completions.create(model="agent", messages=HELLO, max_tokens=2)
    assert answer.choices[0].message.to_dict()["reasoning_content"] == "123456"
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("ab", "length")


@requirement("params.max-tokens")
@in_process
async def test_an_agent_that_counts_tokens_itself_is_given_the_limit_and_not_cut(connect: Connect) -> None:
    agent = Says("a long answer of few tokens", Finished("length"), can=Capabilities(counts_tokens=True))
    async with connect(agent) as client:
        assert await finish(client, max_tokens=1) == ("a long answer of few tokens", "length")
    assert agent.requests[0].sampling.max_tokens == 1


# n


@requirement("params.n")
async def test_n_answers_are_n_runs_side_by_side_and_usage_is_their_sum(connect: Connect) -> None:
    together = threading.Barrier(3)  # no run goes on before all have started

    def agent(context: RunContext) -> Iterator[Any]:
        together.wait(10)
        yield context.turn_id
        yield UsageReported(10, 1)

    async with connect(agent) as client:
        answer = await client.chat.completions.create(model="agent", messages=HELLO, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.message.content for choice in answer.choices} == {answer.id, f"{answer.id}-1", f"{answer.id}-2"}
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (30, 3)


@requirement("params.n")
@in_process
async def test_more_answers_than_the_server_allows_are_refused(connect: Connect) -> None:
    agent = Says("Hi")
    async with connect(agent, limits=Limits(choices=2)) as client:
        two = await client.chat.completions.create(model="agent", messages=HELLO, n=2)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="agent", messages=HELLO, n=3)
    assert len(two.choices) == 2
    assert (caught.value.param, caught.value.code) == ("n", "invalid_value")
    assert len(agent.requests) == 2


@requirement("params.n")
@pytest.mark.parametrize("stream", [False, True])
@in_process
async def test_one_failed_run_fails_the_answer_and_stops_the_others(stream: bool, connect: Connect) -> None:
    stopped = threading.Event()

    async def agent(context: RunContext) -> AsyncIterator[str]:
        if context.turn_id.endswith("-1"):
            raise RuntimeError
        try:
            await anyio.sleep_forever()
            yield ""
        finally:
            stopped.set()

    async with connect(agent) as client:
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="agent", messages=HELLO, n=2, stream=stream)
        assert await anyio.to_thread.run_sync(stopped.wait, 10)


# logprobs


@requirement("params.logprobs")
@in_process
async def test_token_probabilities_that_were_not_asked_for_are_not_shown(connect: Connect) -> None:
    token = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
    agent = Says(TextDelta("a", [token]), can=EVERYTHING)
    async with connect(agent) as client:
        asked = await client.chat.completions.create(model="agent", messages=HELLO, logprobs=True, top_logprobs=1)
        not_asked = await client.chat.completions.create(model="agent", messages=HELLO)
    assert asked.choices[0].logprobs is not None
    assert asked.choices[0].logprobs.to_dict() == {"content": [token], "refusal": None}
    assert not_asked.choices[0].logprobs is None
    assert agent.requests[0].sampling.top_logprobs == 1
