"""The settings of a conformance suite, and the answers that its checks look at: each is asked for once."""

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

SAYING = (TextDelta, ReasoningDelta, RefusalDelta)

WEATHER: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "conformance_kit_weather",  # nobody's own tool is called so
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
"""The text of the errors that are put into agents; no answer may show it."""


def expect(holds: object, message: str) -> None:
    """Fail with `message` unless it holds."""
    __tracebackhide__ = True
    if not holds:
        raise AssertionError(message)


def skip(reason: str) -> NoReturn:
    """Leave a check out that says nothing about this agent."""
    raise SkipTest(reason)


class Examination:
    """Settings of a suite. Override in your subclass what does not fit; only `agent` has no default.

    Attributes:
        agent: the agent, several by name, a Server, an ASGI application, or what is asked over the network
            (`openai_compat_adapters.testing.UrlTarget`); or a method `agent(self)` that makes one.
        model: the model to ask for; the first one listed unless given.
        api_key: sent as the bearer token.
        path: where the API is; another one for an application that is mounted below a prefix.
        prompt: makes the agent say some text; in several pieces, if it can.
        long_prompt: makes it work for a while, so that a client can leave meanwhile. Without one the agent is held up
            between two pieces of its answer to `prompt`, which an ASGI application does not allow.
        own_tool_prompt: makes it use a tool of its own. `prompt` unless given.
        failing_prompt: makes it fail. Without one a failure is put into it, which an ASGI application does not allow.
        approval_prompt: makes it ask before it runs a tool of its own. Approvals are left out without one.
        edited_arguments: other arguments for that call, which somebody who approves it could write.
        edited_result: what the result, or the text after it, says of a call with those arguments.
        tool_prompt: makes it call one of `tools`, and nothing else.
        tools: what the client offers, as the OpenAI API has it.
        tool_result: what the client answers to every call.
        tool_answer: what the agent must then say somewhere in its text.
        secrets: texts that no error may show, beside the ones known from the errors themselves.
        options: more fields for every request, such as `temperature`.
        repeatable: whether the agent says the same whenever it is asked the same.
        timeout: seconds that one answer may take.
        settle: seconds that the agent is given to get into its work before its client leaves.
        patience: seconds that an agent may take to stop after its client has left.
        stall: seconds that the agent may keep the event loop from doing anything else.
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
    # What a person takes for "it has stopped", and far above what a cancellation takes.
    patience: float = 2.0
    stall: float = 1.0
    event_loop: str = "asyncio"

    _loop: ClassVar[LoopThread]
    _known: ClassVar[dict[str, Any]]

    def serve(self, agent: AgentBackend) -> object:
        """Serve the agent: returns a Server or an ASGI application around it. Override it for policies of yours."""
        return Server(agent)

    @classmethod
    def setup_class(cls) -> None:
        """Start the event loop that all checks share: agents may hold on to theirs."""
        cls._loop = LoopThread(cls.event_loop).open()
        cls._known = {}

    @classmethod
    def teardown_class(cls) -> None:
        """End the event loop, and what an agent has left running on it."""
        cls._loop.close()

    def setup_method(self) -> None:
        """Look once whether there is anything to examine: if not, one failure says why, and the rest is left out."""
        __tracebackhide__ = True
        told = "problem" in self._known
        problem = self.once("problem", self._problem)
        if problem is not None:
            if told:
                skip(f"nothing can be examined: {problem}")
            raise AssertionError(problem) from None

    def _problem(self) -> str | None:
        """Why the model cannot be asked for anything, in a sentence; None if it can."""
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

    # asking

    def run(self, function: Callable[[], Awaitable[Result]]) -> Result:
        """Run a coroutine function on the suite's event loop. Fails if it takes longer than an answer may."""
        __tracebackhide__ = True

        async def bounded() -> Result:
            with anyio.move_on_after(self.timeout):
                return await function()
            raise AssertionError(f"no complete answer within {self.timeout:g} s (`timeout`)")

        # A bound of its own: an agent that blocks the loop blocks the timeout inside as well.
        return self._loop.run(bounded, seconds=self.timeout + 3 * self.patience + 5)

    def once(self, name: str, make: Callable[[], Result]) -> Result:
        """The result or exception of `make`, made once for the whole suite."""
        __tracebackhide__ = True
        if name not in self._known:
            try:
                self._known[name] = (make(), None)
            except (AssertionError, SkipTest) as error:
                self._known[name] = (None, error)
        result, failure = self._known[name]
        if failure is not None:
            # Every check that needs it fails with it: the first one's traceback would lead to another check.
            raise failure.with_traceback(None)
        return cast("Result", result)

    def subject(self, wrap: Wrap | None = None) -> Subject:
        """The agent, made ready to be asked, with a fault in it if `wrap` is given."""
        return as_subject(self.once("agent", self._agent), self.serve, wrap)

    def _agent(self) -> Any:
        """The `agent` of the class. A function there is the agent itself, unless it takes `self`."""
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
        """The model to ask for."""
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
        """The agent that answers, None where it cannot be seen."""
        return subject.watched.get("") or subject.watched.get(self.model_name)

    def ask(
        self, body: bytes | Mapping[str, Any], wrap: Wrap | None = None, *, patience: float = 0
    ) -> ObservedExchange:
        """Send a chat request and read its answer; then give it so many seconds to leave nothing behind."""
        __tracebackhide__ = True
        subject = self.subject(wrap)
        exchange = self.run(lambda: ask(subject, self.watched(subject), self.chat(body), patience))
        crash = exchange.answer.crash
        expect(crash is None, f"the application raised {crash!r} at its server instead of answering")
        return exchange

    def respond(self, fields: Mapping[str, Any]) -> ObservedExchange:
        """Send a request of the Responses API and read its answer."""
        __tracebackhide__ = True
        subject = self.once("subject of responses", self.subject)  # which remembers what was said before
        body = {"model": self.model_name, **self.options, **fields}
        request = http_request("POST", f"{self.path}/responses", body, self.headers)
        return self.run(lambda: ask(subject, self.watched(subject), request, 0))

    # the answers that checks look at

    @property
    def plain(self) -> ObservedExchange:
        """`prompt`, answered as a whole, without a stream."""
        return self.once("plain", lambda: _good(self.ask(self.body(self.prompt), patience=self.patience)))

    @property
    def streamed(self) -> ObservedExchange:
        """`prompt`, answered as a stream."""
        return self.once(
            "streamed", lambda: _good(self.ask(self.body(self.prompt, stream=True), patience=self.patience))
        )

    @property
    def with_usage(self) -> ObservedExchange:
        """`prompt`, answered as a stream that was asked to end with its usage."""
        fields = {"stream": True, "stream_options": {"include_usage": True}}
        return self.once("with usage", lambda: _good(self.ask(self.body(self.prompt, **fields))))

    @property
    def can_be_watched(self) -> bool:
        """True if runs can be seen and faults be put in: not inside an ASGI application."""
        return self.once("watched", lambda: self.watched(self.subject()) is not None)

    @property
    def pieces_to_text(self) -> int:
        """The number of items up to the first that the client sees: text, reasoning or a refusal."""
        for run in self.streamed.runs:
            for number, item in enumerate(run.items, 1):
                if item if isinstance(item, str) else isinstance(item, SAYING) and item.text:
                    return number
        return 1

    @property
    def pieces(self) -> int:
        """The number of items the agent yields."""
        return sum([len(run.items) for run in self.streamed.runs])

    def failure(self, *, stream: bool, after: int = 0) -> ObservedExchange:
        """The exchange in which the agent fails: by itself at `failing_prompt`, or by a fault after so many items."""
        if self.failing_prompt is not None and after == 0:
            return self.ask(self.body(self.failing_prompt, stream=stream))
        if not self.can_be_watched:
            skip("set `failing_prompt`: no fault can be put into an agent inside an ASGI application")
        return self.ask(
            self.body(self.prompt, stream=stream), lambda agent: raise_at(agent, after, RuntimeError(SECRET))
        )


def _good(exchange: ObservedExchange) -> ObservedExchange:
    answer = exchange.answer
    shown = answer.body[:300].decode("utf-8", "replace")
    expect(answer.status == 200, f"the prompt was answered with status {answer.status}, not 200: {shown}")
    return exchange
