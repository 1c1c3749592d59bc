"""Agents may raise anything, at any moment: the client gets an error without secrets, and the server survives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import httpx2
import openai
import pytest

from openai_compat import AgentError, Capabilities, OpenAICompatError, Server
from openai_compat.agents.error_mapping import to_public_error
from openai_compat.errors import InvalidRequest, NotFound, RateLimited, Unavailable
from tests.requirements import requirement
from tests.support.exchanges import Recorder, answer, chat
from tests.support.stepping import agent_threads, eventually, tasks

pytestmark = pytest.mark.anyio
SECRET = "s3cr3t"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError(SECRET)

    __repr__ = __str__


class BaseSubclass(BaseException):
    pass


class Homeless(Exception):
    """An exception whose class has no module."""


Homeless.__module__ = None


class Lying(Exception):
    """Looks like an exception of a model SDK, and is broken in every way."""

    @property
    def status_code(self) -> int:
        raise RuntimeError(SECRET)

    @property
    def response(self) -> object:
        raise RuntimeError(SECRET)

    def __str__(self) -> str:
        raise RuntimeError(SECRET)


Lying.__module__ = "openai"


class HalfLying(Exception):
    """The same, with a status for which the text is inspected."""

    status_code = 400
    response = 5

    def __str__(self) -> str:
        raise RuntimeError(SECRET)


HalfLying.__module__ = "anthropic._exceptions"


def with_cause() -> Exception:
    error, cause = RuntimeError(SECRET), ValueError(SECRET)
    error.__cause__, cause.__cause__ = cause, error
    return error


EXCEPTIONS: dict[str, Callable[[], BaseException]] = {
    "RuntimeError": lambda: RuntimeError(SECRET),
    "ValueError": lambda: ValueError(SECRET),
    "TypeError": lambda: TypeError(SECRET),
    "KeyError": lambda: KeyError(SECRET),
    "AssertionError": lambda: AssertionError(SECRET),
    "OSError": lambda: ConnectionResetError(SECRET),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    "MemoryError": lambda: MemoryError(SECRET),
    "RecursionError": lambda: RecursionError(SECRET),
    "NotImplementedError": lambda: NotImplementedError(SECRET),
    "EndOfStream": anyio.EndOfStream,
    "StopIteration": lambda: StopIteration(SECRET),
    "StopAsyncIteration": lambda: StopAsyncIteration(SECRET),
    "GeneratorExit": lambda: GeneratorExit(SECRET),
    "SystemExit(0)": lambda: SystemExit(0),
    "SystemExit(text)": lambda: SystemExit(SECRET),
    "KeyboardInterrupt": lambda: KeyboardInterrupt(SECRET),
    "CancelledError": lambda: asyncio.CancelledError(SECRET),
    "ExceptionGroup": lambda: ExceptionGroup(SECRET, [ValueError(SECRET), KeyError(SECRET)]),
    "group with SystemExit": lambda: BaseExceptionGroup(SECRET, [SystemExit(SECRET), ValueError(SECRET)]),
    "group of one": lambda: BaseExceptionGroup(SECRET, [BaseExceptionGroup(SECRET, [KeyboardInterrupt(SECRET)])]),
    "unprintable": Unprintable,
    "10 MB": lambda: RuntimeError(SECRET * 1_700_000),
    "half a surrogate pair": lambda: RuntimeError("\ud800" + SECRET),
    "BaseException": lambda: BaseException(SECRET),
    "BaseSubclass": BaseSubclass,
    "homeless": Homeless,
    "lying": Lying,
    "half lying": HalfLying,
    "cause in a circle": with_cause,
}
Raiser = Callable[[BaseException, int], Callable[..., Any]]


def async_generator(error: BaseException, after: int) -> Callable[..., Any]:
    async def agent(prompt: str) -> AsyncIterator[str]:
        for _ in range(after):
            yield "said"
        raise error

    return agent


def coroutine(error: BaseException, after: int) -> Callable[..., Any]:
    async def agent(prompt: str) -> str:
        await anyio.lowlevel.checkpoint()
        raise error

    return agent


def generator(error: BaseException, after: int) -> Callable[..., Any]:
    def agent(prompt: str) -> Iterator[str]:
        for _ in range(after):
            yield "said"
        raise error

    return agent


def function(error: BaseException, after: int) -> Callable[..., Any]:
    def agent(prompt: str) -> str:
        raise error

    return agent


def iterator(error: BaseException, after: int) -> Callable[..., Any]:
    """An object whose `run` returns an async iterator that is no generator, so it cannot be closed."""

    class Items:
        def __init__(self) -> None:
            self.left = after

        def __aiter__(self) -> Items:
            return self

        async def __anext__(self) -> str:
            if not self.left:
                raise error
            self.left -= 1
            return "said"

    class Agent:
        def run(self, prompt: str) -> Items:
            return Items()

    return Agent()


RAISERS: list[tuple[Raiser, int]] = [
    (async_generator, 0),
    (async_generator, 1),
    (coroutine, 0),
    (generator, 0),
    (generator, 1),
    (function, 0),
    (iterator, 1),
]


def ends_normally(raiser: Raiser, name: str) -> bool:
    """True for the one case that is no failure: an iterator ends by StopAsyncIteration."""
    return raiser is iterator and name == "StopAsyncIteration"


def check_nothing_told(sent: Recorder) -> None:
    assert sent.complete
    assert SECRET.encode() not in sent.data
    assert not any(SECRET in value for value in sent.headers.values())


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("name", EXCEPTIONS)
async def test_an_agent_may_raise_anything(name: str, stream: bool) -> None:
    for raiser, after in RAISERS:
        server, before = Server(raiser(EXCEPTIONS[name](), after)), tasks()
        sent = await answer(server, chat(stream=stream))
        check_nothing_told(sent)
        if ends_normally(raiser, name):
            assert sent.text == "said"
        elif stream and after and sent.status == 200:
            assert sent.text == "said"
            assert set(sent.events[-1]["error"]) == {"message", "type", "param", "code"}
            assert sent.events[-1]["error"]["type"] == "agent_error"
            assert b'"finish_reason":"' not in sent.data
            assert b"[DONE]" not in sent.data
        else:
            assert (sent.status, sent.error["type"]) == (500, "server_error")
            assert sent.error["code"] in ("agent_error", "upstream_error")
            assert sent.headers["x-should-retry"] == "false"
        await eventually(lambda server=server: not server.services.live.slots.used)
        assert tasks() == before
    await eventually(lambda: not agent_threads())


@pytest.mark.parametrize("name", EXCEPTIONS)
async def test_the_next_request_is_served_by_the_same_server(name: str) -> None:
    errors = [EXCEPTIONS[name]()]

    async def agent(prompt: str) -> AsyncIterator[str]:
        yield "said"
        if errors:
            raise errors.pop()

    server = Server(agent)
    assert (await answer(server, chat())).status == 500
    assert (await answer(server, chat())).text == "said"
    assert (await answer(server, chat(stream=True))).text == "said"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_an_agent_that_cannot_even_be_called_is_an_error(stream: bool) -> None:
    class Agent:
        capabilities = Capabilities()

        def run(self, request: object, context: object) -> AsyncIterator[str]:
            raise RuntimeError(SECRET)

    sent = await answer(Server(Agent()), chat(stream=stream))
    assert sent.error == {"message": "The agent failed.", "type": "server_error", "param": None, "code": "agent_error"}


async def test_the_log_has_what_the_client_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    sent = await answer(Server(function(RuntimeError(SECRET), 0)), chat())
    assert f"RuntimeError: {SECRET}" in caplog.text
    assert sent.headers["x-request-id"] in caplog.text


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_a_log_that_cannot_be_written_does_not_hide_the_failure(stream: bool) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                raise RuntimeError("the disk is full")

    broken = Broken()
    logging.getLogger("openai_compat").addHandler(broken)
    try:
        sent = await answer(Server(async_generator(ValueError(SECRET), 1)), chat(stream=stream))
    finally:
        logging.getLogger("openai_compat").removeHandler(broken)
    check_nothing_told(sent)
    assert b'"agent_error"' in sent.data
    assert b"[DONE]" not in sent.data


# the client's error for each exception


@pytest.mark.parametrize(
    "declared",
    [
        AgentError("Closed today.", status=409, code="closed", param="tools"),
        AgentError("Ask me later.", status=429, retry_after=7),
        AgentError("Try again.", should_retry=True),
        RateLimited("Slow down."),
        Unavailable("The calendar is down.", code="calendar_down"),
        NotFound("No such document."),
        InvalidRequest("I need a date.", param="messages[0].content"),
    ],
)
async def test_an_error_that_an_agent_declares_is_what_the_client_gets(declared: OpenAICompatError) -> None:
    sent = await answer(Server(function(declared, 0)), chat())
    assert (sent.status, sent.error["message"], sent.error["code"]) == (
        declared.status,
        declared.message,
        declared.code,
    )
    assert (sent.error["param"], sent.error["type"]) == (declared.param, declared.type)
    assert sent.headers["x-should-retry"] == ("true" if declared.should_retry else "false")


async def test_a_declared_error_inside_a_group_of_one_is_found() -> None:
    async def agent(prompt: str) -> str:
        async def fail() -> None:
            raise AgentError("Closed today.", status=409)

        async with anyio.create_task_group() as group:
            group.start_soon(fail)
        return "never"

    assert (await answer(Server(agent), chat())).status == 409


async def test_a_timeout_inside_the_agent_is_504() -> None:
    sent = await answer(Server(function(TimeoutError(SECRET), 0)), chat())
    assert (sent.status, sent.error["code"]) == (504, "agent_timeout")


def test_no_error_that_is_shown_has_the_text_of_one_that_was_not_meant_to_be() -> None:
    for make in EXCEPTIONS.values():
        shown = to_public_error(make())
        assert shown.should_retry is False
        assert SECRET not in shown.message


# exceptions of frameworks for the model behind them


def framework_error(module: str, cause: BaseException | None = None, **attributes: Any) -> Exception:
    """An exception of a package that is not installed here, with its documented attributes."""
    kind = type("ModelError", (Exception,), {"__module__": module})
    error = kind(SECRET)
    for name, value in attributes.items():
        setattr(error, name, value)
    error.__cause__ = cause
    return error


def openai_error(status: int, **headers: str) -> openai.APIStatusError:
    answer = httpx2.Response(status, headers=headers, request=httpx2.Request("POST", "http://model"))
    return openai.APIStatusError(SECRET, response=answer, body=None)


class Answered:
    """A response of an SDK, of which only the headers are read."""

    headers: ClassVar[dict[str, str]] = {"retry-after": "9"}


class MyModelDown(openai.InternalServerError):
    """A user's subclass of an SDK's exception."""


def mine() -> Exception:
    known = openai_error(503)
    return MyModelDown(SECRET, response=known.response, body=None)


def chained(error: Exception, length: int) -> Exception:
    for _ in range(length):
        error = framework_error("my_agent", error)
    return error


THROTTLED = {"ResponseMetadata": {"HTTPStatusCode": 429}, "Error": {"Message": SECRET}}
GROUP = ExceptionGroup(SECRET, [openai_error(429)])
WRAPPED: dict[str, tuple[Exception, tuple[int, str | None, float | None]]] = {
    "status_code": (framework_error("pydantic_ai.exceptions", status_code=429), (429, "rate_limit_exceeded", 1)),
    "code": (framework_error("google.genai.errors", code=503, status="X"), (503, "upstream_unavailable", 5)),
    "http_status": (framework_error("litellm.exceptions", http_status=401), (502, "upstream_auth", None)),
    "response": (framework_error("botocore.exceptions", response=THROTTLED), (429, "rate_limit_exceeded", 1)),
    "refused": (framework_error("ollama", status_code=400), (500, "upstream_error", None)),
    "its own answer": (
        framework_error("google.genai.errors", code=429, response=Answered()),
        (429, "rate_limit_exceeded", 9),
    ),
    "its own headers": (
        framework_error("cohere.errors", status_code=429, headers=Answered.headers),
        (429, "rate_limit_exceeded", 9),
    ),
    "the cause's headers": (
        framework_error("pydantic_ai.exceptions", openai_error(429, **{"retry-after": "7"}), status_code=429),
        (429, "rate_limit_exceeded", 7),
    ),
    "the cause's status": (framework_error("strands.types", openai_error(503)), (503, "upstream_unavailable", 5)),
    "a cause in a group": (framework_error("crewai", GROUP), (429, "rate_limit_exceeded", 1)),
    "a cause far down": (chained(openai_error(429), 5), (429, "rate_limit_exceeded", 1)),
    "no connection": (
        framework_error("pydantic_ai", openai.APIConnectionError(request=httpx2.Request("GET", "http://model"))),
        (503, "upstream_unreachable", 5),
    ),
    "a subclass": (mine(), (503, "upstream_unavailable", 5)),
    "no status": (framework_error("pydantic_ai.exceptions"), (500, "agent_error", None)),
    "no error status": (framework_error("pydantic_ai.exceptions", code=200), (500, "agent_error", None)),
    "a code that is no status": (framework_error("google.adk", code=-32000), (500, "agent_error", None)),
    "of no framework": (framework_error("fastapi", status_code=429), (500, "agent_error", None)),
    "half a name": (framework_error("googly.errors", code=429), (500, "agent_error", None)),
    "far too deep": (chained(openai_error(429), 50), (500, "agent_error", None)),
}


@requirement("errors.upstream")
@pytest.mark.parametrize("name", WRAPPED)
async def test_what_a_framework_raises_for_its_model_is_told_by_its_status(name: str) -> None:
    error, (status, code, retry_after) = WRAPPED[name]
    shown = to_public_error(error)
    assert (shown.status, shown.code, shown.retry_after) == (status, code, retry_after)
    sent = await answer(Server(function(error, 0)), chat())
    check_nothing_told(sent)
    assert (sent.status, sent.error["code"]) == (status, code)
    assert sent.headers["x-should-retry"] == "false"


@requirement("errors.upstream")
@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 8192 tokens.",
        "Input is too long for requested model.",
        "The input token count exceeds the maximum number of tokens allowed.",
    ],
)
def test_a_framework_that_says_that_the_conversation_was_too_long_is_understood(said: str) -> None:
    error = framework_error("pydantic_ai.exceptions", ValueError("else"), status_code=400)
    error.args = (f"{said} {SECRET}",)
    shown = to_public_error(error)
    assert (shown.status, shown.code) == (400, "context_length_exceeded")
    assert SECRET not in shown.message


@requirement("errors.upstream")
@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (AgentError.upstream(429, retry_after=20), 429, "rate_limit_exceeded", "20"),
        (AgentError.upstream(529), 503, "upstream_unavailable", "5"),
        (AgentError.upstream(401), 502, "upstream_auth", None),
        (AgentError.upstream(413, too_long=True), 400, "context_length_exceeded", None),
        (AgentError.upstream(404), 500, "upstream_error", None),
    ],
)
async def test_an_agent_may_tell_the_status_of_its_model_itself(
    error: AgentError, status: int, code: str, retry_after: str | None
) -> None:
    sent = await answer(Server(function(error, 0)), chat())
    assert (sent.status, sent.error["code"], sent.headers.get("retry-after")) == (status, code, retry_after)
    assert sent.headers["x-should-retry"] == "false"


@requirement("cli.log")
@pytest.mark.anyio
@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
@pytest.mark.parametrize("kind", [AgentError, InvalidRequest])
async def test_what_an_agent_says_to_its_client_needs_no_traceback(
    kind: type[OpenAICompatError], level: int, caplog: pytest.LogCaptureFixture
) -> None:
    def agent(prompt: str) -> str:
        raise kind("The calendar\nis closed.", code="closed")

    with caplog.at_level(level, "openai_compat"):
        await answer(Server(agent), chat())
    (failed,) = [record for record in caplog.records if "the agent failed" in record.getMessage()]
    assert (failed.exc_info is None) is (level == logging.INFO)
    if level == logging.INFO:
        assert failed.getMessage().endswith(r"the agent failed: The calendar\nis closed. (closed)")
