"""The settings of a conformance suite, and the answers that its checks share: each is requested once."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, ClassVar, NoReturn, TypeVar, cast
from unittest import SkipTest

import anyio

from ...backend import AgentBackend
from ...events import ReasoningDelta, RefusalDelta, TextDelta
from ...http import HttpRequest
from ...server import Server
from ..answer import Answer
from ..client_call import Call, http_request
from ..faults import raise_at
from ..loop_thread import LoopThread
from ..subject import ObservedExchange, Subject, as_subject, ask
from ..watch import Watched
from ..wrapping import Wrap

Result = TypeVar("Result")

VISIBLE_DELTAS = (TextDelta, ReasoningDelta, RefusalDelta)

WEATHER: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "conformance_kit_weather",  # a name that no agent's own tool has
        "description": "The weather in a city, now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}

SECRET = "secret-5f1c9e of /srv/agent/keys.py"  # noqa: S105  (a bait: it must not come back)
"""The text of the injected errors; no answer may contain it."""


def expect(holds: object, message: str) -> None:
    """Fail with `message` if `holds` is false."""
    __tracebackhide__ = True
    if not holds:
        raise AssertionError(message)


def skip(reason: str) -> NoReturn:
    """Skip a check that does not apply to this agent."""
    raise SkipTest(reason)


class Examination:
    """Settings of a suite. Override them in your subclass as needed; only `agent` has no default.

    Attributes:
        agent: the agent, several by name, a Server, an ASGI application, or a target on the network
            (`openai_compat_adapters.testing.UrlTarget`); or a method `agent(self)` that makes one.
        model: the name of the model to request; by default the first one listed.
        api_key: sent as the bearer token.
        path: the base path of the API; change it for an application that is mounted below a prefix.
        prompt: makes the agent answer with some text, in several pieces if possible.
        long_prompt: makes the agent work for a while, so that a client can disconnect meanwhile. By default, the agent is
            paused between two pieces of its answer to `prompt`, which is impossible inside an ASGI application.
        own_tool_prompt: makes the agent use one of its own tools; by default `prompt`.
        failing_prompt: makes the agent fail. By default a failure is injected, which is impossible inside an ASGI
            application.
        approval_prompt: makes the agent request approval before it runs one of its own tools. Without it, the approval
            checks are skipped.
        edited_arguments: other arguments for that call, as a user who approves it could enter them.
        edited_result: text that the result of a call with those arguments, or the text after it, contains.
        tool_prompt: makes the agent call one of `tools`, and nothing else.
        tools: the tools that the client offers, in OpenAI's format.
        tool_result: the client's result for every call.
        tool_answer: text that the agent's answer to that result must contain.
        secrets: texts that no error may show, in addition to the texts of the errors themselves.
        options: more fields for every request, such as `temperature`.
        repeatable: True if the agent gives the same answer whenever it gets the same request.
        timeout: maximum time for one answer, in seconds.
        settle: seconds for which the agent may start its work before its client disconnects.
        patience: seconds within which an agent must stop after its client has disconnected.
        stall: seconds for which the agent may block the event loop.
        event_loop: "asyncio" or "trio".
    """

    agent: Any = None
    model: str | None = None
    api_key: str = "conformance"
    path: str = "/v1"
    prompt: str = "Say hello."
    long_prompt: str | None = None
    own_tool_prompt: str | None = None
    failing_prompt: str | None = None
    tool_prompt: str = "What is the weather in Paris now? Use the tool."
    approval_prompt: str | None = None
    edited_arguments: Mapping[str, Any] | None = None
    edited_result: str | None = None
    tools: Sequence[Mapping[str, Any]] = (WEATHER,)
    tool_result: str = "4711 degrees"
    tool_answer: str = "4711"
    secrets: Sequence[str] = ()
    options: Mapping[str, Any] = {}
    repeatable: bool = True
    timeout: float = 30.0
    settle: float = 0.05
    # As long as a user may wait for a visible stop, and far longer than a cancellation takes.
    patience: float = 2.0
    stall: float = 1.0
    event_loop: str = "asyncio"

    _loop: ClassVar[LoopThread]
    _results: ClassVar[dict[str, Any]]

    def serve(self, agent: AgentBackend) -> object:
        """Serve the agent: return a Server or an ASGI application around it. Override it to use your own policies."""
        return Server(agent)

    @classmethod
    def setup_class(cls) -> None:
        """Start the event loop that all checks share, since agents may depend on their event loop."""
        cls._loop = LoopThread(cls.event_loop).open()
        cls._results = {}

    @classmethod
    def teardown_class(cls) -> None:
        """End the event loop, and the tasks that an agent has left on it."""
        cls._loop.close()

    def setup_method(self) -> None:
        """Check once that the API can be reached: if not, one failure gives the reason, and the other checks are skipped."""
        __tracebackhide__ = True
        told = "problem" in self._results
        problem = self.once("problem", self._find_problem)
        if problem is not None:
            if told:
                skip(f"nothing can be examined: {problem}")
            raise AssertionError(problem) from None

    def _find_problem(self) -> str | None:
        """A sentence that says why the API cannot be used; None if it can."""
        try:
            answer = self.get("/models")
        except (TypeError, ValueError) as error:
            return str(error)
        if answer.crash is not None:
            return f"There is no answer from the application: {answer.crash!r}."
        if answer.status in (401, 403):
            return f"It wants another key ({answer.status}): set `api_key`, or give --openai-compat-key KEY."
        if answer.status == 404:
            return f"There is nothing at {self.path}/models: set `path`, or give --openai-compat-path PREFIX/v1."
        if answer.status >= 500:
            return f"It is out of order: GET {self.path}/models is answered with {answer.status}."
        return None

    # requests

    def run(self, function: Callable[[], Awaitable[Result]]) -> Result:
        """Run a coroutine function on the suite's event loop. Fails if it takes longer than `timeout` seconds."""
        __tracebackhide__ = True

        async def bounded() -> Result:
            with anyio.move_on_after(self.timeout):
                return await function()
            raise AssertionError(f"no complete answer within {self.timeout:g} s (`timeout`)")

        # A second timeout outside the loop: an agent that blocks the loop also blocks the timeout inside.
        return self._loop.run(bounded, seconds=self.timeout + 3 * self.patience + 5)

    def once(self, name: str, make: Callable[[], Result]) -> Result:
        """The result or exception of `make`, which is called once for the whole suite."""
        __tracebackhide__ = True
        if name not in self._results:
            try:
                self._results[name] = (make(), None)
            except (AssertionError, SkipTest) as error:
                self._results[name] = (None, error)
        result, failure = self._results[name]
        if failure is not None:
            # All checks that need it fail with the same error: its first traceback would point to another check.
            raise failure.with_traceback(None)
        return cast("Result", result)

    def subject(self, wrap: Wrap | None = None) -> Subject:
        """The agent as a subject, with an injected fault if `wrap` is given."""
        return as_subject(self.once("agent", self._agent), self.serve, wrap)

    def _agent(self) -> Any:
        """The `agent` of the class. A function there is the agent itself, unless its first parameter is `self`."""
        given = self.__dict__.get("agent", inspect.getattr_static(self, "agent"))
        if given is None:
            raise AssertionError("set `agent` in your subclass of Conformance")
        if isinstance(given, FunctionType) and next(iter(inspect.signature(given).parameters), "") == "self":
            return given(self)
        return given.__func__ if isinstance(given, staticmethod) else cast("object", given)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"authorization": f"Bearer {self.api_key}"}

    @property
    def model_name(self) -> str:
        """The name of the model to request."""
        listed: list[dict[str, Any]] = []
        if not self.model:
            listed = self.once("models", lambda: self.get("/models").json.get("data") or [])
        return self.model or (str(listed[0].get("id", "agent")) if listed else "agent")

    def get(self, path: str) -> Answer:
        """The answer to a GET request, for a path below that of the API."""

        async def read() -> Answer:
            async with Call(self.subject().target, http_request("GET", self.path + path, headers=self.headers)) as call:
                return await call.read_all()

        return self.run(read)

    def chat(self, body: bytes | Mapping[str, Any]) -> HttpRequest:
        """A request for a chat completion."""
        return http_request("POST", f"{self.path}/chat/completions", body, self.headers)

    def body(self, prompt: str, **fields: Any) -> dict[str, Any]:
        """A chat request with one user message."""
        messages = [{"role": "user", "content": prompt}]
        return {"model": self.model_name, "messages": messages, **self.options, **fields}

    def watched(self, subject: Subject) -> Watched | None:
        """The agent that answers; None if it is not accessible."""
        return subject.watched.get("") or subject.watched.get(self.model_name)

    def ask(
        self, body: bytes | Mapping[str, Any], wrap: Wrap | None = None, *, patience: float = 0
    ) -> ObservedExchange:
        """Send a chat request and read its answer; then allow `patience` seconds for tasks to end."""
        __tracebackhide__ = True
        subject = self.subject(wrap)
        exchange = self.run(lambda: ask(subject, self.watched(subject), self.chat(body), patience))
        crash = exchange.answer.crash
        expect(crash is None, f"the application raised {crash!r} at its server instead of answering")
        return exchange

    def respond(self, fields: Mapping[str, Any]) -> ObservedExchange:
        """Send a request of the Responses API and read its answer."""
        __tracebackhide__ = True
        subject = self.once("subject of responses", self.subject)  # which stores the conversation history
        body = {"model": self.model_name, **self.options, **fields}
        request = http_request("POST", f"{self.path}/responses", body, self.headers)
        return self.run(lambda: ask(subject, self.watched(subject), request, 0))

    # the answers that checks share

    @property
    def plain(self) -> ObservedExchange:
        """The answer to `prompt` without a stream."""
        return self.once("plain", lambda: _expect_ok(self.ask(self.body(self.prompt), patience=self.patience)))

    @property
    def streamed(self) -> ObservedExchange:
        """The answer to `prompt` as a stream."""
        return self.once(
            "streamed", lambda: _expect_ok(self.ask(self.body(self.prompt, stream=True), patience=self.patience))
        )

    @property
    def with_usage(self) -> ObservedExchange:
        """The answer to `prompt` as a stream, with usage requested at its end."""
        fields = {"stream": True, "stream_options": {"include_usage": True}}
        return self.once("with usage", lambda: _expect_ok(self.ask(self.body(self.prompt, **fields))))

    @property
    def can_be_watched(self) -> bool:
        """True if runs can be observed and faults injected, which is impossible inside an ASGI application."""
        return self.once("watched", lambda: self.watched(self.subject()) is not None)

    @property
    def pieces_to_text(self) -> int:
        """The number of items up to the first one visible to the client: text, reasoning or a refusal."""
        for run in self.streamed.runs:
            for number, item in enumerate(run.items, 1):
                if item if isinstance(item, str) else isinstance(item, VISIBLE_DELTAS) and item.text:
                    return number
        return 1

    @property
    def pieces(self) -> int:
        """The number of items that the agent yields."""
        return sum([len(run.items) for run in self.streamed.runs])

    def failure(self, *, stream: bool, after: int = 0) -> ObservedExchange:
        """An exchange in which the agent fails: on its own at `failing_prompt`, or by an injected fault after `after` items."""
        if self.failing_prompt is not None and after == 0:
            return self.ask(self.body(self.failing_prompt, stream=stream))
        if not self.can_be_watched:
            skip("set `failing_prompt`: no fault can be put into an agent inside an ASGI application")
        return self.ask(
            self.body(self.prompt, stream=stream), lambda agent: raise_at(agent, after, RuntimeError(SECRET))
        )


def _expect_ok(exchange: ObservedExchange) -> ObservedExchange:
    answer = exchange.answer
    shown = answer.body[:300].decode("utf-8", "replace")
    expect(answer.status == 200, f"the prompt was answered with status {answer.status}, not 200: {shown}")
    return exchange
