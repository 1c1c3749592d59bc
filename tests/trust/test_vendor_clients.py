"""How the vendors' own clients handle failures, before and behind the server. Numbers refer to the list of faults."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import anyio
import httpx2
import openai
import pytest

from openai_compat import AgentError, Deadlines, Limits, Principal, Server
from openai_compat.turns.slots import SlotRequest
from openai_compat_adapters.client import DEFAULTS, async_openai
from tests.transports import uvicorn_socket
from tests.trust.probe import CHAT, ask, error_of, in_process
from tests.trust.wire import RawClient

pytestmark = pytest.mark.anyio
HI: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def anyio_backend() -> str:
    """The vendors' clients run on asyncio."""
    return "asyncio"


SEAT = SlotRequest(1, "agent", Principal("anonymous"))


async def fails_later(prompt: str) -> AsyncIterator[str]:
    yield "so "
    yield "far"
    raise RuntimeError("broken")


def test_a_failure_within_a_stream_keeps_the_text_so_far_and_ends_the_body_properly() -> None:
    """173"""
    with uvicorn_socket(Server(fails_later)) as url:
        with RawClient(url) as client:
            client.chat(stream=True)
            received = client.read_until(b"0\r\n\r\n")
        assert received.endswith(b"\r\n0\r\n\r\n")
        assert b"[DONE]" not in received
        assert b'"finish_reason":"' not in received
        text = ""
        with openai.OpenAI(base_url=f"{url}/v1", api_key="any") as sdk:
            stream = sdk.chat.completions.create(model="agent", messages=HI, stream=True)
            with pytest.raises(openai.APIError) as failure:
                for chunk in stream:
                    text += chunk.choices[0].delta.content or ""
    assert text == "so far"
    assert (failure.value.message, failure.value.type, failure.value.code) == (
        "The agent failed.", "agent_error", "agent_error",
    )  # fmt: skip


FAILURES: dict[str, BaseException] = {
    "any": RuntimeError("x"),
    "timeout": TimeoutError(),
    "declared conflict": AgentError("busy", status=409),
    "declared rate limit": AgentError("slow down", status=429, retry_after=0.01),
    "declared unavailable": AgentError("down", status=503, retry_after=0.01),
    "exit": SystemExit(1),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failed_run_is_not_repeated_by_the_sdk(failure: str, stream: bool) -> None:
    """178, 179: by default the SDK retries 409, 429 and 5xx, three tries in all, and the agent may have had side effects"""
    runs = 0

    async def agent(prompt: str) -> str:
        nonlocal runs
        runs += 1
        raise FAILURES[failure]

    async with async_openai(Server(agent)) as sdk:
        assert sdk.max_retries == 2
        with pytest.raises(openai.APIStatusError) as error:
            await sdk.chat.completions.create(model="agent", messages=HI, stream=stream)
    assert error.value.response.headers["x-should-retry"] == "false"
    assert runs == 1


async def test_a_run_that_took_too_long_is_not_repeated_by_the_sdk() -> None:
    """178"""
    runs = 0

    async def agent(prompt: str) -> None:
        nonlocal runs
        runs += 1
        await anyio.sleep_forever()

    async with async_openai(Server(agent, deadlines=Deadlines(request=0.05))) as sdk:
        with pytest.raises(openai.InternalServerError):
            await sdk.chat.completions.create(model="agent", messages=HI)
    assert runs == 1


async def ok(prompt: str) -> str:
    return "ok"


async def test_a_request_refused_before_its_run_is_repeated_by_the_sdk() -> None:
    """179: nothing has run yet, so the SDK's default is right"""
    server = Server(ok, limits=Limits(slots=1))
    refused = anyio.Event()

    class Noticing(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            async with in_process(server) as client:
                answer = await client.post(CHAT, content=await request.aread(), headers=request.headers)
            if answer.status_code == 429:
                refused.set()
                server.services.live.slots.release(SEAT)
            return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)

    await server.services.live.slots.take(SEAT)
    async with openai.AsyncOpenAI(http_client=httpx2.AsyncClient(transport=Noticing()), **DEFAULTS) as sdk:
        answer = await sdk.chat.completions.create(model="agent", messages=HI)
    assert answer.choices[0].finish_reason == "stop"
    assert refused.is_set()


# 180: errors of the model behind the agent, raised by the vendors' own clients


def upstream(status: int, body: dict[str, Any], headers: dict[str, str]) -> httpx2.AsyncClient:
    """An HTTP client whose every request gets this answer from the model's API."""
    answer = httpx2.MockTransport(lambda request: httpx2.Response(status, json=body, headers=headers))
    return httpx2.AsyncClient(transport=answer)


async def ask_openai(http_client: httpx2.AsyncClient) -> None:
    sdk = openai.AsyncOpenAI(
        base_url="http://upstream", api_key="the agent's own", http_client=http_client, max_retries=0
    )
    await sdk.chat.completions.create(model="m", messages=HI)


async def ask_anthropic(http_client: httpx2.AsyncClient) -> None:
    sdk = anthropic.AsyncAnthropic(
        base_url="http://upstream", api_key="the agent's own", http_client=http_client, max_retries=0
    )
    await sdk.messages.create(model="m", max_tokens=1, messages=HI)


async def ask_plainly(http_client: httpx2.AsyncClient) -> None:
    (await http_client.post("http://upstream/v1/x")).raise_for_status()


CONTEXT = "This model's maximum context length is 8192 tokens. secret-of-the-upstream"
UPSTREAM = [
    (429, {"retry-after": "7"}, "x", (429, "rate_limit_error", "rate_limit_exceeded", None), "7"),
    (429, {}, "x", (429, "rate_limit_error", "rate_limit_exceeded", None), "1"),
    (429, {"retry-after": "86400"}, "x", (429, "rate_limit_error", "rate_limit_exceeded", None), "1"),
    (500, {}, "x", (503, "server_error", "upstream_unavailable", None), "5"),
    (503, {"retry-after": "3"}, "x", (503, "server_error", "upstream_unavailable", None), "3"),
    (529, {}, "x", (503, "server_error", "upstream_unavailable", None), "5"),
    (401, {}, "x", (502, "server_error", "upstream_auth", None), None),
    (403, {}, "x", (502, "server_error", "upstream_auth", None), None),
    (404, {}, "x", (500, "server_error", "upstream_error", None), None),
]


@pytest.mark.parametrize("client", [ask_openai, ask_anthropic, ask_plainly])
@pytest.mark.parametrize(("status", "headers", "message", "expected", "retry_after"), UPSTREAM)
async def test_errors_of_the_model_behind_the_agent_are_mapped(
    client: Callable[[httpx2.AsyncClient], Any],
    status: int,
    headers: dict[str, str],
    message: str,
    expected: tuple[Any, ...],
    retry_after: str | None,
) -> None:
    """180: the vendor's 401 is never passed on: it would be a statement about the client's own key"""

    async def agent(prompt: str) -> str:
        async with upstream(status, {"error": {"type": "t", "message": message}}, headers) as http_client:
            await client(http_client)
        return "never"

    async with in_process(Server(agent)) as ours:
        for stream in (False, True):
            answer = await ours.post(CHAT, json=ask(stream=stream))
            assert error_of(answer) == expected
            assert answer.headers.get("retry-after") == retry_after
            assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("client", [ask_openai, ask_anthropic])
async def test_a_conversation_too_long_for_the_model_behind_the_agent_says_so(
    client: Callable[[httpx2.AsyncClient], Any],
) -> None:
    """180"""

    async def agent(prompt: str) -> str:
        async with upstream(400, {"error": {"type": "invalid_request_error", "message": CONTEXT}}, {}) as http_client:
            await client(http_client)
        return "never"

    async with in_process(Server(agent)) as ours:
        answer = await ours.post(CHAT, json=ask())
    assert error_of(answer) == (400, "invalid_request_error", "context_length_exceeded", None)
    assert "secret-of-the-upstream" not in answer.text


@pytest.mark.parametrize("client", [ask_openai, ask_anthropic, ask_plainly])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx2.ConnectError("no route to 10.0.0.7"), (503, "server_error", "upstream_unreachable", None)),
        (httpx2.ReadTimeout("slow"), (504, "server_error", "upstream_timeout", None)),
    ],
)
async def test_a_model_that_cannot_be_reached_is_unavailable(
    client: Callable[[httpx2.AsyncClient], Any],
    error: Exception,
    expected: tuple[Any, ...],
) -> None:
    """180"""

    def unreachable(request: httpx2.Request) -> httpx2.Response:
        raise error

    async def agent(prompt: str) -> str:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(unreachable)) as http_client:
            await client(http_client)
        return "never"

    async with in_process(Server(agent)) as ours:
        answer = await ours.post(CHAT, json=ask())
    assert error_of(answer) == expected
    assert "10.0.0.7" not in answer.text
