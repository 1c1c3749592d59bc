"""The tool loop with SDKs of real models behind it, and the real OpenAI client in front."""

from __future__ import annotations

from typing import Any

import pytest

from openai_compat import Finished, Server, ToolResult
from openai_compat.agent_request import Decision
from openai_compat.tools import AskLater, ToolLoop, tool
from openai_compat_adapters.client import async_openai
from tests.backends import test_anthropic as anthropic_model
from tests.backends import test_openai as openai_model
from tests.backends.upstream import Upstream
from tests.tools.support import after, request_for, results, run, text, user

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The SDKs leave generators to the garbage collector, which trio reports: asyncio only."""
    return "asyncio"


@tool(danger="safe")
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def openai_call(city: str, call_id: str | None = None) -> bytes:
    made = {"index": 0, "id": call_id, "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'}}
    return openai_model.delta(tool_calls=[made])


async def test_an_openai_model_calls_tools_until_it_has_its_answer_and_usage_is_summed() -> None:
    upstream = Upstream(
        openai_model.stream(openai_model.delta(content="Let me see."), openai_call("Oslo", "c1"), reason="tool_calls"),
        openai_model.stream(openai_call("Rome", "c2"), reason="tool_calls"),
        openai_model.stream(openai_model.delta(content="Both are sunny.")),
    )
    messages: list[Any] = [user("Weather?")]
    async with (
        openai_model.backend_for(upstream, "mock", "m") as backend,
        async_openai(Server(ToolLoop(backend, [weather])), max_retries=0) as client,
    ):
        answer = await client.chat.completions.create(model="agent", messages=messages)

    assert answer.choices[0].message.content == "Let me see.\n\nBoth are sunny."
    assert (answer.choices[0].finish_reason, answer.choices[0].message.tool_calls) == ("stop", None)
    assert answer.usage
    assert answer.usage.total_tokens == 3 * openai_model.USAGE["total_tokens"]
    assert [offered["function"]["name"] for offered in upstream.requests[0]["tools"]] == ["weather"]
    assert [message["role"] for message in upstream.requests[2]["messages"]] == [
        *("user", "assistant", "tool", "assistant", "tool"),
    ]
    assert upstream.requests[2]["messages"][-1] == {"role": "tool", "tool_call_id": "c2", "content": "sunny in Rome"}


async def test_a_model_server_that_gives_calls_no_ids_is_looped_with_too() -> None:
    upstream = Upstream(
        openai_model.stream(openai_call("Oslo"), reason="tool_calls"),
        openai_model.stream(openai_call("Rome"), reason="tool_calls"),
        openai_model.stream(openai_model.delta(content="Sunny.")),
    )
    async with openai_model.backend_for(upstream, "mock", "m") as backend:
        said = await run(ToolLoop(backend, [weather]))

    assert [result.output for result in results(said)] == ["sunny in Oslo", "sunny in Rome"]
    assert len({result.call_id for result in results(said)}) == 2
    assert text(said) == "Sunny."


async def test_an_anthropic_model_gets_its_signed_thoughts_back_with_the_results() -> None:
    upstream = Upstream(
        anthropic_model.message(
            anthropic_model.thinking(0, "Hm."),
            anthropic_model.tool_use(1, "toolu_1", '{"city": "Oslo"}'),
            reason="tool_use",
        ),
        anthropic_model.message(anthropic_model.text(0, "Sunny.")),
    )
    async with anthropic_model.backend_for(upstream, "mock", "m", extra=anthropic_model.BUDGET) as backend:
        said = await run(ToolLoop(backend, [weather]))

    assert (text(said), said[-1]) == ("Sunny.", Finished("stop"))
    assert results(said) == [ToolResult("toolu_1", "sunny in Oslo")]
    assert upstream.requests[1]["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "signed"},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny in Oslo"}]},
    ]
    assert upstream.requests[1]["thinking"] == anthropic_model.BUDGET["thinking"]


async def test_a_turn_that_an_anthropic_model_goes_on_with_elsewhere_is_one_that_the_api_takes() -> None:
    def buy(what: str) -> str:
        return f"bought {what}"

    asks = anthropic_model.message(
        anthropic_model.text(0, "May I?"),
        anthropic_model.tool_use(1, "t_1", '{"what": "tea"}', name="buy"),
        reason="tool_use",
    )
    request = request_for("Buy tea")
    async with anthropic_model.backend_for(Upstream(asks), "mock", "m") as backend:
        paused = (await run(ToolLoop(backend, [buy], approver=AskLater()), request))[-1]

    upstream = Upstream(anthropic_model.message(anthropic_model.text(0, "Done.")))
    async with anthropic_model.backend_for(upstream, "mock", "m") as backend:
        said = await run(ToolLoop(backend, [buy]), after(request, paused, decisions={"t_1": Decision(approved=True)}))

    assert text(said) == "Done."
    assert [turn["role"] for turn in upstream.requests[0]["messages"]] == ["user", "assistant", "user"]
    assert upstream.requests[0]["messages"][1]["content"] == [
        {"type": "text", "text": "May I?"},
        {"type": "tool_use", "id": "t_1", "name": "buy", "input": {"what": "tea"}},
    ]
    assert upstream.requests[0]["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "t_1", "content": "bought tea"}
    ]


async def test_streamed_and_plain_answers_say_the_same() -> None:
    def script() -> list[Any]:
        return [
            openai_model.stream(openai_model.delta(content="Hm."), openai_call("Oslo", "c1"), reason="tool_calls"),
            openai_model.stream(openai_model.delta(content="It is "), openai_model.delta(content="sunny.")),
        ]

    upstream = Upstream(*script(), *script())
    messages: list[Any] = [user("Weather?")]
    async with (
        openai_model.backend_for(upstream, "mock", "m") as backend,
        async_openai(Server(ToolLoop(backend, [weather])), max_retries=0) as client,
    ):
        plain = await client.chat.completions.create(model="agent", messages=messages)
        async with client.chat.completions.stream(model="agent", messages=messages) as events:
            streamed = await events.get_final_completion()

    assert streamed.choices[0].message.content == plain.choices[0].message.content == "Hm.\n\nIt is sunny."
