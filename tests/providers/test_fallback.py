"""A fallback model takes over: when, when not, for how long, and how this is reported."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from openai_compat import AgentRequest, Progress, Server, UsageReported, as_backend
from openai_compat.backend import Capabilities, RunContext
from openai_compat.errors import AgentError
from openai_compat.providers import Fallback, Providers, ProviderSettings, fallback
from openai_compat.tools import ToolLoop, tool
from openai_compat_adapters.client import async_openai
from tests.backends.support import new_context, read, request_for, run
from tests.backends.upstream import Reply, Upstream, error_reply
from tests.providers.support import at, calls, fails, says
from tests.requirements import requirement
from tests.transports import wsgi_socket

pytestmark = pytest.mark.anyio


def text(said: list[Any]) -> str:
    return "".join([item for item in said if isinstance(item, str)])


def told(said: list[Any]) -> list[dict[str, Any]]:
    return [dict(item.data) for item in said if isinstance(item, Progress) and item.kind == "fallback"]


def two(first: str, second: str, **settings: Any) -> tuple[Providers, Fallback]:
    providers = Providers({"groq": at(first), "xai": at(second)})
    models = ("groq/m", "xai/n")
    return providers, Fallback({model: providers.backend(model) for model in models}, **settings)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (fails(429), "rate_limit_exceeded"),
        (fails(500), "upstream_unavailable"),
        (fails(503), "upstream_unavailable"),
        (fails(529), "upstream_unavailable"),
        (fails(401), "upstream_auth"),
        (fails(403), "upstream_auth"),
    ],
)
async def test_what_is_wrong_with_a_model_makes_another_one_answer(reply: Reply, reason: str) -> None:
    with Upstream(reply).served() as first, Upstream(says("Second.")).served() as second:
        providers, agent = two(first, second)
        said = await run(agent)
        await providers.aclose()

    assert text(said) == "Second."
    assert told(said) == [{"from": "groq/m", "to": "xai/n", "reason": reason, "ignored": []}]


async def test_one_that_cannot_be_reached_or_has_no_key_is_passed_over(unused_port: int) -> None:
    with Upstream(says("Third.")).served() as url:
        providers = Providers({"groq": at(f"http://127.0.0.1:{unused_port}"), "openai": at(url)})
        agent = Fallback({name: providers.backend(f"{name}/m") for name in ("groq", "xai", "openai")})
        said = await run(agent)
        await providers.aclose()

    assert text(said) == "Third."
    assert [(one["from"], one["reason"]) for one in told(said)] == [
        ("groq", "upstream_unreachable"),
        ("xai", "provider_not_configured"),
    ]


@pytest.mark.parametrize(
    "reply",
    [
        fails(400),
        fails(404),
        fails(422),
        error_reply(400, {"error": {"message": "the context window", "code": "context_length_exceeded"}}),
    ],
)
async def test_a_request_that_is_at_fault_itself_is_asked_of_nobody_else(reply: Reply) -> None:
    second = Upstream(says("Second."))
    with Upstream(reply).served() as first_url, second.served() as second_url:
        providers, agent = two(first_url, second_url)
        with pytest.raises(openai.APIStatusError):
            await run(agent)
        assert agent.cooling == []
        await providers.aclose()

    assert second.requests == []


@requirement("provider.fallback")
async def test_nobody_takes_over_once_something_was_said() -> None:
    half = says("First ha")
    half.frames = half.frames[:2]
    half.frames.append(b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n')
    second = Upstream(says("Second."))
    with Upstream(half).served() as first_url, second.served() as second_url:
        providers, agent = two(first_url, second_url)
        items, said = read(agent, request_for(), new_context()), ""
        while not said.endswith("ha"):
            said += str(await anext(items))
        with pytest.raises(openai.APIError):
            await anext(items)
        assert agent.cooling == ["groq/m"]
        await providers.aclose()

    assert said == "First ha"
    assert second.requests == []


async def test_a_failure_in_the_stream_before_any_word_is_not_too_late() -> None:
    nothing = says("")
    nothing.frames = nothing.frames[:1]
    nothing.frames.append(b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n')
    with Upstream(nothing).served() as first_url, Upstream(says("Second.")).served() as second_url:
        providers, agent = two(first_url, second_url)
        said = await run(agent)
        await providers.aclose()

    assert text(said) == "Second."


async def test_tokens_that_were_counted_are_no_words() -> None:
    class Counts:
        async def __call__(self, prompt: str) -> AsyncIterator[Any]:
            yield UsageReported(10, 0)
            raise AgentError(status=503, code="upstream_unavailable")

    async def other(prompt: str) -> str:
        return "Second."

    async with async_openai(Server(_named(Counts(), other))) as client:
        answer = await client.chat.completions.create(model="agent", messages=[{"role": "user", "content": "a"}])

    assert answer.choices[0].message.content == "Second."


class Takes:
    """Accepts some parameters; answers with their names, or fails like its model."""

    def __init__(self, *parameters: str, fails: bool = False) -> None:
        self.capabilities = Capabilities(parameters=frozenset(parameters))
        self.fails = fails

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        if self.fails:
            raise AgentError.upstream(503)
        yield ", ".join(sorted(self.capabilities.parameters or ()))


@requirement("agents.parameters")
async def test_what_is_ignored_is_told_of_the_one_that_answers() -> None:
    first, second = Takes("temperature", "seed"), Takes("temperature")
    agent = _named(first, second)
    sent: Any = {"model": "agent", "messages": [{"role": "user", "content": "a"}], "seed": 7, "temperature": 1}
    async with async_openai(Server(agent)) as client:

        async def ignored() -> str | None:
            answer = await client.chat.completions.with_raw_response.create(**sent)
            return answer.headers.get("X-Ignored-Parameters")

        assert await ignored() is None
        first.fails = True
        said = await run(agent, request_for(seed=7, temperature=1))
        assert [one["ignored"] for one in told(said)] == [["seed"]]
        assert agent.cooling == ["0"]
        assert await ignored() == "seed"  # the second agent is now asked first


def _named(*agents: Any) -> Fallback:
    return Fallback({str(place): as_backend(agent) for place, agent in enumerate(agents)})


class Clock:
    """A clock set by the test."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@requirement("provider.fallback")
async def test_one_that_failed_is_left_alone_for_a_while_and_then_preferred_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(fallback, "time", clock)
    first, second = Upstream(fails(503), says("First.")), Upstream(*[says("Second.") for _ in range(2)])
    with first.served() as first_url, second.served() as second_url:
        providers, agent = two(first_url, second_url, cooldown=60)
        said = [await run(agent)]
        assert agent.cooling == ["groq/m"]
        clock.now += 59
        said.append(await run(agent))
        clock.now += 2
        assert agent.cooling == []
        said.append(await run(agent))
        await providers.aclose()

    assert list(map(text, said)) == ["Second.", "Second.", "First."]
    assert [bool(told(one)) for one in said] == [True, False, False]
    assert len(first.requests) == 2


async def test_when_all_have_failed_they_are_asked_again_and_the_last_failure_is_told() -> None:
    first, second = Upstream(fails(503), fails(503)), Upstream(fails(429), says("Second."))
    with first.served() as first_url, second.served() as second_url:
        providers, agent = two(first_url, second_url)
        with pytest.raises(openai.RateLimitError):
            await run(agent)
        assert agent.cooling == ["groq/m", "xai/n"]
        said = await run(agent)
        assert agent.cooling == ["groq/m"]
        await providers.aclose()

    assert text(said) == "Second."


async def test_a_tool_loop_changes_the_model_between_two_answers() -> None:
    @tool(danger="safe")
    def weather(city: str) -> str:
        """The weather."""
        return "sun"

    first, second = Upstream(calls("weather", {"city": "Oslo"}), fails(503)), Upstream(says("Sun."))
    with first.served() as first_url, second.served() as second_url:
        providers, agent = two(first_url, second_url)
        said = await run(ToolLoop(agent, [weather]))
        await providers.aclose()

    assert text(said) == "Sun."
    assert told(said)[0]["to"] == "xai/n"
    assert second.requests[0]["messages"][-1] == {"role": "tool", "tool_call_id": "call_1", "content": "sun"}


async def test_a_client_sees_the_other_models_answer_and_that_it_is_anothers() -> None:
    with Upstream(fails(503)).served() as first, Upstream(says("Second.")).served() as second:
        providers, agent = two(first, second)
        async with async_openai(Server({"team": agent}, providers=providers)) as client:
            stream = await client.chat.completions.create(
                model="team", messages=[{"role": "user", "content": "Hello"}], stream=True
            )
            chunks = [chunk.model_dump() async for chunk in stream]
        await providers.aclose()

    assert "".join([c["choices"][0]["delta"]["content"] or "" for c in chunks if c["choices"]]) == "Second."
    assert "xai/n takes over" in json.dumps(chunks)


def test_behind_wsgi_each_event_loop_falls_back() -> None:
    first, second = Upstream(fails(503)), Upstream(*[says("Second.") for _ in range(3)])
    with first.served() as first_url, second.served() as second_url:
        providers, agent = two(first_url, second_url)
        with wsgi_socket(Server({"team": agent}, providers=providers)) as url:
            client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
            said = [
                client.chat.completions.create(model="team", messages=[{"role": "user", "content": "Hello"}])
                for _ in range(3)
            ]
            client.close()

    assert [one.choices[0].message.content for one in said] == ["Second."] * 3
    assert len(first.requests) == 1


def test_a_fallback_needs_somebody() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Fallback({})


def test_it_can_what_the_preferred_one_can() -> None:
    settings = {"anthropic": ProviderSettings(api_key="k"), "groq": ProviderSettings(api_key="k")}
    providers = Providers(settings)
    claude, llama = providers.backend("anthropic/m"), providers.backend("groq/m")

    assert Fallback({"a": claude, "b": llama}).capabilities == claude.capabilities != llama.capabilities


async def test_to_cancel_is_passed_on() -> None:
    class Cancellable:
        capabilities = Capabilities()

        def __init__(self) -> None:
            self.asked: list[RunContext] = []

        async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[str]:
            yield "a"

        def request_cancel(self, context: RunContext) -> None:
            self.asked.append(context)

    agent, context = Cancellable(), new_context()
    Fallback({"a": agent}).request_cancel(context)

    assert agent.asked == [context]
