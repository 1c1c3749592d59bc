"""All kinds of agents, their arguments, and the handling of their results."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

from openai_compat import (
    AgentBackend,
    AgentRequest,
    Capabilities,
    Finished,
    Notice,
    RunContext,
    Server,
    TextDelta,
    as_backend,
)
from tests.requirements import requirement
from tests.support.exchanges import answer, chat
from tests.support.stepping import agent_threads, eventually

pytestmark = pytest.mark.anyio


# all kinds of agents


def function(prompt: str) -> str:
    return f"said {prompt}"


async def coroutine_function(prompt: str) -> str:
    return f"said {prompt}"


def generator(prompt: str) -> Iterator[str]:
    yield "said "
    yield prompt


async def async_generator(prompt: str) -> AsyncIterator[str]:
    yield "said "
    yield prompt


def returns_async_generator(prompt: str) -> AsyncIterator[str]:
    return async_generator(prompt)


def returns_coroutine(prompt: str) -> Awaitable[str]:
    return coroutine_function(prompt)


def returns_generator(prompt: str) -> Iterator[str]:
    return generator(prompt)


async def coroutine_of_async_generator(prompt: str) -> AsyncIterator[str]:
    return async_generator(prompt)


async def coroutine_of_generator(prompt: str) -> Iterator[str]:
    return generator(prompt)


def returns_list(prompt: str) -> list[str]:
    return ["said ", prompt]


async def coroutine_of_list(prompt: str) -> list[str]:
    return ["said ", prompt]


def returns_iterator(prompt: str) -> Iterator[str]:
    return iter(("said ", prompt))


async def yields_events(prompt: str) -> AsyncIterator[TextDelta | Finished]:
    yield TextDelta(f"said {prompt}")
    yield Finished()


def generator_of_coroutines(prompt: str) -> Iterator[Awaitable[str]]:
    yield coroutine_function(prompt)


class Agent:
    """An agent whose methods are agents of every kind, too."""

    run = staticmethod(function)

    def method(self, prompt: str) -> str:
        return f"said {prompt}"

    async def async_method(self, prompt: str) -> str:
        return f"said {prompt}"

    def generator_method(self, prompt: str) -> Iterator[str]:
        yield f"said {prompt}"

    async def async_generator_method(self, prompt: str) -> AsyncIterator[str]:
        yield f"said {prompt}"

    @classmethod
    def class_method(cls, prompt: str) -> str:
        return f"said {prompt}"

    @staticmethod
    async def static_method(prompt: str) -> str:
        return f"said {prompt}"


def with_run(run: Callable[..., Any]) -> object:
    return type("WithRun", (), {"run": lambda self, prompt: run(prompt)})()


class RunsCoroutine:
    async def run(self, prompt: str) -> str:
        return f"said {prompt}"


class RunsAsyncGenerator:
    async def run(self, prompt: str) -> AsyncIterator[str]:
        yield f"said {prompt}"


class RunsGenerator:
    def run(self, prompt: str) -> Iterator[str]:
        yield f"said {prompt}"


class CallableObject:
    def __call__(self, prompt: str) -> str:
        return f"said {prompt}"


class AsyncCallableObject:
    async def __call__(self, prompt: str) -> str:
        return f"said {prompt}"


class AsyncGeneratorObject:
    async def __call__(self, prompt: str) -> AsyncIterator[str]:
        yield f"said {prompt}"


class Backend:
    capabilities = Capabilities()

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[TextDelta]:
        yield TextDelta(f"said {request.prompt}")


def decorated(agent: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(agent)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return agent(*args, **kwargs)

    return wrapper


async def two_parameters(prefix: str, prompt: str) -> str:
    return f"{prefix} {prompt}"


def factory() -> Callable[..., Any]:
    return async_generator


async def async_factory() -> object:
    return RunsCoroutine()


SHAPES: dict[str, Any] = {
    "function": function,
    "coroutine function": coroutine_function,
    "generator": generator,
    "async generator": async_generator,
    "function that returns an async generator": returns_async_generator,
    "function that returns a coroutine": returns_coroutine,
    "function that returns a generator": returns_generator,
    "function that returns a list": returns_list,
    "function that returns an iterator": returns_iterator,
    "coroutine that returns an async generator": coroutine_of_async_generator,
    "coroutine that returns a generator": coroutine_of_generator,
    "coroutine that returns a list": coroutine_of_list,
    "generator of coroutines": generator_of_coroutines,
    "events": yields_events,
    "lambda": lambda prompt: f"said {prompt}",
    "lambda that returns a coroutine": lambda text: coroutine_function(prompt=text),
    "bound method": Agent().method,
    "bound coroutine method": Agent().async_method,
    "bound generator method": Agent().generator_method,
    "bound async generator method": Agent().async_generator_method,
    "class method": Agent.class_method,
    "static method": Agent.static_method,
    "object with a static run": Agent(),
    "object with run": with_run(function),
    "object with a run that returns an async generator": with_run(async_generator),
    "object with a coroutine run": RunsCoroutine(),
    "object with an async generator run": RunsAsyncGenerator(),
    "object with a generator run": RunsGenerator(),
    "callable object": CallableObject(),
    "async callable object": AsyncCallableObject(),
    "async generator object": AsyncGeneratorObject(),
    "backend": Backend(),
    "class of agents": RunsCoroutine,
    "class of backends": Backend,
    "class of callables": CallableObject,
    "factory": factory,
    "async factory": async_factory,
    "factory of a backend": lambda: next(iter([Backend()])),
    "partial": functools.partial(two_parameters, "said"),
    "partial by name": functools.partial(two_parameters, prefix="said"),
    "partial of a generator": functools.partial(generator),
    "partial of an object": functools.partial(AsyncCallableObject()),
    "partial of a partial": functools.partial(functools.partial(two_parameters, "said")),
    "decorated function": decorated(function),
    "decorated async generator": decorated(async_generator),
    "cached function": functools.cache(function),
    "method of a builtin": "said ".__add__,
}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_an_agent_has_any_shape(shape: str, stream: bool) -> None:
    server = Server(SHAPES[shape])
    sent = await answer(server, chat(stream=stream))
    assert (sent.status, sent.text) == (200, "said hi")
    await eventually(lambda: not server.services.live.slots.used and not agent_threads())


async def test_a_factory_makes_an_agent_for_every_turn() -> None:
    class Counter:
        def __init__(self) -> None:
            self.turns = 0

        async def run(self, prompt: str) -> str:
            self.turns += 1
            return f"turn {self.turns}"

    fresh, kept = Server(Counter), Server(Counter())
    assert [(await answer(fresh, chat())).text for _ in range(2)] == ["turn 1", "turn 1"]
    assert [(await answer(kept, chat())).text for _ in range(2)] == ["turn 1", "turn 2"]


@pytest.mark.parametrize("nonsense", [None, 5, "agent", b"agent", ["agent"], object(), 1.5])
def test_what_is_no_agent_is_refused_with_what_it_is(nonsense: object) -> None:
    with pytest.raises(TypeError, match="an agent is a function, a generator or an object with a run method") as caught:
        as_backend(nonsense)
    shown = {"list": "a list", "object": "an object"}.get(type(nonsense).__name__, repr(nonsense))
    assert str(caught.value).endswith(f", not {shown}")


def test_a_backend_stays_itself() -> None:
    backend = Backend()
    assert as_backend(backend) is backend
    assert isinstance(backend, AgentBackend)


# arguments


async def seen_by(agent: Callable[..., Any], seen: list[Any]) -> Any:
    sent = await answer(Server(agent), chat(messages=[{"role": "user", "content": "one"}], top_k=5))
    assert sent.status == 200, sent.data
    (value,) = seen
    return value


async def test_arguments_are_given_by_name() -> None:
    seen: list[Any] = []

    def everything(messages: object, prompt: str, context: RunContext, request: AgentRequest) -> None:
        seen.append((prompt, messages, request, context))

    prompt, messages, request, context = await seen_by(everything, seen)
    assert (prompt, messages) == ("one", [{"role": "user", "content": "one"}])
    assert isinstance(request, AgentRequest)
    assert isinstance(context, RunContext)
    assert request.extra == {"top_k": 5}


async def test_a_single_parameter_of_any_name_gets_the_prompt() -> None:
    seen: list[Any] = []
    assert await seen_by(lambda question: seen.append(question.upper()), seen) == "ONE"


async def test_a_positional_only_parameter_is_given_by_its_position() -> None:
    seen: list[Any] = []

    def positional(request: AgentRequest, prompt: str, /, context: RunContext) -> None:
        seen.append((request.prompt, prompt, type(context)))

    assert await seen_by(positional, seen) == ("one", "one", RunContext)


async def test_builtins_are_functions_too() -> None:
    assert (await answer(Server(str.upper), chat())).text == "HI"


async def test_parameters_with_a_default_are_left_alone_unless_they_have_one_of_our_names() -> None:
    seen: list[Any] = []

    def agent(
        prompt: str, temperature: float = 0.5, context: RunContext | None = None, *rest: Any, **more: Any
    ) -> None:
        seen.append((prompt, temperature, type(context), rest, more))

    assert await seen_by(agent, seen) == ("one", 0.5, RunContext, (), {})


async def test_what_a_partial_gives_by_name_is_not_overwritten() -> None:
    seen: list[Any] = []

    def agent(prompt: str, messages: list[str]) -> None:
        seen.append((prompt, messages))

    assert await seen_by(functools.partial(agent, messages=["mine"]), seen) == ("one", ["mine"])


async def test_keyword_only_parameters_are_given() -> None:
    seen: list[Any] = []

    def agent(*, prompt: str, request: AgentRequest) -> None:
        seen.append((prompt, request.prompt))

    assert await seen_by(agent, seen) == ("one", "one")


class Positional:
    """Methods that accept the prompt in many ways, but never under one of the known names."""

    def default(self, text: str = "default") -> str:
        return f"said {text}"

    async def options(self, user_prompt: str | None = None, *, deps: object = None, **more: Any) -> str:
        assert (deps, more) == (None, {})
        return f"said {user_prompt}"

    def only(self, text: str = "default", /, style: str = "plain") -> str:
        return f"said {text}"

    async def rest(self, *args: Any, **kwargs: Any) -> str:
        assert (len(args), kwargs) == (1, {})
        return f"said {args[0]}"

    def before_the_rest(self, text: object = None, *more: Any) -> str:
        assert more == ()
        return f"said {text}"

    async def beside_the_context(self, context: RunContext, question: str = "default") -> str:
        assert isinstance(context, RunContext)
        return f"said {question}"

    def context_last(self, question: str | None = None, context: RunContext | None = None) -> str:
        assert isinstance(context, RunContext)
        return f"said {question}"

    def rest_behind_the_context(self, context: RunContext, *args: str) -> str:
        return f"said {args[0]}"

    def by_keyword(self, *, question: str) -> str:
        return f"said {question}"

    async def beside_messages(self, question: str = "default", messages: Any = None) -> str:
        assert messages[-1]["content"] == "hi"
        return f"said {question}"


class WithInstanceRun:
    def __init__(self) -> None:
        self.run = lambda text="default": f"said {text}"


class CallableRest:
    async def __call__(self, *args: Any, **kwargs: Any) -> str:
        return f"said {args[0]}"


def renamed(agent: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator whose parameter has another name than the hidden parameter of the wrapped function."""

    @functools.wraps(agent)
    def wrapper(text: str) -> Any:
        return agent(text, "plain")

    return wrapper


def by_position_only(agent: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(agent)
    def wrapper(*args: Any) -> Any:
        return agent(*args)

    return wrapper


def by_keyword_only(agent: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(agent)
    def wrapper(**kwargs: Any) -> Any:
        return agent(**kwargs)

    return wrapper


class Decorated:
    @decorated
    def run(self, question: str = "default") -> str:
        return f"said {question}"

    @renamed
    def other(self, style: str, question: str = "default") -> str:
        raise NotImplementedError


def styled(question: str, style: str) -> str:
    return f"said {question}"


def of_request(request: AgentRequest) -> str:
    return f"said {request.prompt}"


def style_first(style: str = "plain", text: str = "default") -> str:
    assert style == "given"
    return f"said {text}"


def unwrapped(*args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


@functools.singledispatch
def dispatched(question: object = "default") -> str:
    return f"said {question}"


class ConfiguredAgent:
    """A factory: the arguments of its constructor are not the prompt."""

    def __init__(self, voice: str = "said", *options: Any, **more: Any) -> None:
        self.voice = voice
        assert (options, more) == ((), {})

    async def run(self, text: str = "default") -> str:
        return f"{self.voice} {text}"


TAKERS: dict[str, Any] = {
    **{name: getattr(Positional(), name) for name in vars(Positional) if not name.startswith("_")},
    "run set on the object": WithInstanceRun(),
    "callable object": CallableRest(),
    "decorator that hides a parameter": renamed(styled),
    "decorator that takes positions": by_position_only(function),
    "decorator that takes positions, of the request": by_position_only(of_request),
    "decorator that takes keywords": by_keyword_only(function),
    "decorator of a decorator": decorated(renamed(styled)),
    "decorated method": Decorated(),
    "decorated by hand": unwrapped,
    "single dispatch": dispatched,
    "partial that gives the first by name": functools.partial(style_first, style="given"),
    "partial that gives the first": functools.partial(style_first, "given"),
    "partial of a decorated function": functools.partial(decorated(of_request)),
    "partial method": functools.partial(Positional.default, Positional()),
    "lambda": lambda text="default", *rest, **more: f"said {text}",
    "class": ConfiguredAgent,
    "partial of a class": functools.partial(ConfiguredAgent, voice="said"),
    "positional-only request with a default": eval("lambda request=None, /, style='': f'said {request.prompt}'"),
}


@requirement("agents.prompt")
@pytest.mark.parametrize("taker", TAKERS)
async def test_the_first_parameter_gets_the_prompt_whatever_its_name_and_default(taker: str) -> None:
    sent = await answer(Server(TAKERS[taker]), chat())
    assert (sent.status, sent.text) == (200, "said hi")


async def test_a_default_stays_where_the_agent_asks_for_the_message_by_name() -> None:
    seen: list[Any] = []

    def agent(temperature: float = 0.5, *more: Any, messages: list[Any]) -> None:
        seen.append((temperature, more, messages[0]["content"]))

    assert await seen_by(agent, seen) == (0.5, (), "one")


class NoSelf:
    def run(prompt: str) -> str:
        return f"said {prompt}"


class RunsNothing:
    async def run(self) -> str:
        return "hello"


class RunIsNoMethod:
    run = True


LOST: dict[str, Any] = {
    "keywords only": lambda **options: "hello",
    "a keyword with a default": lambda *, text="default": "hello",
    "a run without self": NoSelf(),
    "a run without parameters": RunsNothing(),
    "a method of the class": Positional.default,
    "a parameter beside the prompt": lambda prompt, weather: "hello",
    "two keywords": functools.partial(lambda a, b, c: "hello", a=1),
    "positional-only ones behind others": eval("lambda style='x', prompt='', /: 'hello'"),
    "a run that is no method": RunIsNoMethod(),
}


@requirement("agents.prompt")
@pytest.mark.parametrize("lost", LOST)
def test_an_agent_that_the_message_cannot_reach_is_refused_at_start(lost: str) -> None:
    with pytest.raises(TypeError, match=r"prompt, messages|an agent is|of a class") as caught:
        Server({"lost": LOST[lost]})
    assert "0x" not in str(caught.value)


# capabilities


def capabilities_of(agent: Any) -> Capabilities:
    return as_backend(agent).capabilities


def test_an_agent_can_take_what_its_parameters_can_hold() -> None:
    prompt_only = Capabilities(
        history="last_user",
        client_tools=False,
        vision=False,
        audio_input=False,
        files=False,
        structured_output=False,
    )
    messages = Capabilities(client_tools=False, structured_output=False)
    assert capabilities_of(lambda prompt: prompt) == prompt_only
    assert capabilities_of(lambda prompt, context: prompt) == prompt_only
    assert capabilities_of(lambda messages: messages) == messages
    assert capabilities_of(lambda request: request) == Capabilities()
    assert capabilities_of(lambda: None) == Capabilities()


def test_declared_capabilities_win() -> None:
    declared = Capabilities(logprobs=True)
    assert as_backend(function, capabilities=declared).capabilities == declared
    assert as_backend(RunsCoroutine(), capabilities=declared).capabilities == declared
    with pytest.raises(TypeError, match="a backend declares its capabilities itself"):
        as_backend(Backend(), capabilities=declared)


async def test_what_an_agent_cannot_take_is_refused() -> None:
    picture = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "https://a.example"}}]
    sent = await answer(Server(function), chat(messages=[{"role": "user", "content": picture}]))
    assert (sent.status, sent.error["param"]) == (400, "messages[0].content[1]")


# results


def yields(value: Any) -> Callable[..., Any]:
    async def agent(prompt: str) -> AsyncIterator[Any]:
        yield value

    return agent


def returns(value: Any) -> Callable[..., Any]:
    return lambda prompt: value


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize(
    "wrong",
    [5, 1.5, b"bytes", {"text": "hi"}, {1, 2}, object(), bytearray(b"x"), range(2), [5], ("a", None), TextDelta],
    ids=lambda value: type(value).__name__,
)
async def test_what_is_no_text_and_no_event_is_the_agents_error(wrong: Any, stream: bool) -> None:
    agents = [yields(wrong)]
    if not isinstance(wrong, type):  # a function that returns a class is a factory
        agents.append(returns(wrong))
    for agent in agents:
        sent = await answer(Server(agent), chat(stream=stream))
        assert b"[DONE]" not in sent.data
        assert b'"invalid_event"' in sent.data or sent.status == 500


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("field", [None, 5, b"bytes", ["x"], object()], ids=lambda value: type(value).__name__)
async def test_an_event_with_the_wrong_thing_in_it_is_the_agents_error(field: Any, stream: bool) -> None:
    for event in (TextDelta(field), Notice(field)):
        sent = await answer(Server(yields(event)), chat(stream=stream))
        assert (sent.status, sent.error["code"]) == (500, "invalid_event")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize(
    "agent", [returns(None), returns(""), returns([]), returns(iter(())), yields(""), yields(Finished())]
)
async def test_an_agent_that_says_nothing_has_answered_with_nothing(agent: Callable[..., Any], stream: bool) -> None:
    sent = await answer(Server(agent), chat(stream=stream))
    assert (sent.status, sent.complete, sent.text) == (200, True, "")
    assert b'"finish_reason":"stop"' in sent.data


# threads


async def test_a_plain_agent_that_blocks_holds_up_nobody_else() -> None:
    release = threading.Event()

    def blocking(prompt: str) -> str:
        return "released" if release.wait(20) else "nobody came"

    server = Server({"agent": blocking, "other": coroutine_function})
    texts: list[str] = []

    async def ask_blocking() -> None:
        texts.append((await answer(server, chat())).text)

    async with anyio.create_task_group() as group:
        group.start_soon(ask_blocking)
        await eventually(agent_threads)
        other = await answer(server, chat(model="other"))
        assert (other.text, texts) == ("said hi", [])
        release.set()
    assert texts == ["released"]


async def test_more_plain_agents_run_at_once_than_anyios_own_threads_allow() -> None:
    barrier = threading.Barrier(45)

    def meeting(prompt: str) -> str:
        barrier.wait(20)
        return "met"

    server, texts = Server(meeting), []

    async def meet() -> None:
        texts.append((await answer(server, chat())).text)

    async with anyio.create_task_group() as group:
        for _ in range(barrier.parties):
            group.start_soon(meet)
    assert texts == ["met"] * barrier.parties


asked_by: contextvars.ContextVar[str] = contextvars.ContextVar("asked_by")


@pytest.mark.parametrize("kind", ["function", "generator", "coroutine"])
async def test_context_variables_reach_the_agent(kind: str) -> None:
    def look(prompt: str) -> str:
        return asked_by.get("nobody")

    def look_and_yield(prompt: str) -> Iterator[str]:
        yield asked_by.get("nobody")

    async def look_async(prompt: str) -> str:
        return asked_by.get("nobody")

    agents = {"function": look, "generator": look_and_yield, "coroutine": look_async}
    asked_by.set("Bob")
    assert (await answer(Server(agents[kind]), chat())).text == "Bob"


async def test_what_an_agent_sets_stays_its_own() -> None:
    async def sets(prompt: str) -> str:
        asked_by.set("somebody else")
        return "done"

    asked_by.set("Bob")
    await answer(Server(sets), chat())
    assert asked_by.get() == "Bob"
