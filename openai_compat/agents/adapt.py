"""Turns what people have (functions, generators, objects with `run`, factories) into backends."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import aclosing, closing
from dataclasses import replace
from typing import Any, Protocol, TypeAlias, cast

from ..agent_request import AgentRequest, Resume
from ..backend import AgentBackend, Capabilities, RunContext
from ..errors import InvalidRequest
from ..events import EVENT_TYPES, AgentEvent
from ..wire.json import same_json
from .describe import describe, first_line
from .frameworks import framework_backend
from .signatures import arguments_of, bare_function
from .worker_thread import ThreadRun


class HasRun(Protocol):
    """An object with a method `run`, which is a function of any kind."""

    @property
    def run(self) -> Callable[..., Any]:
        """The function, called once for each turn."""
        ...


class Graph(Protocol):
    """A compiled graph of LangGraph, by what it has: types import no framework either."""

    @property
    def astream(self) -> Callable[..., Any]:
        """Runs the graph and yields what it does, called once for each turn."""
        ...

    @property
    def aget_state(self) -> Callable[..., Any]:
        """Reads what its checkpointer has kept of a thread."""
        ...


Agent: TypeAlias = AgentBackend | Callable[..., Any] | HasRun | Graph
"""Anything `as_backend` takes."""

Learn: TypeAlias = Callable[[AgentBackend], None]
"""Told of the backend of a framework's agent that a function has made."""

ITEM_TYPES = (str, *EVENT_TYPES)

RUN_BY = frozenset({"run", "__call__", "__aiter__", "__iter__", "__await__", "__getattr__"})
"""Methods of which an object has one that an agent makes for a turn."""


def as_backend(agent: Agent, *, capabilities: Capabilities | None = None) -> AgentBackend:
    """Make a backend of an agent.

    Takes a function, a coroutine function, a generator function of either kind, an object with a `run` method of any
    of these kinds, an object of an agent framework that a backend runs, a backend, or a factory: a function or class that makes one of these (for agents that hold one
    conversation, so that every turn needs its own).

    Arguments are given by parameter name: `prompt` (text of the last user message), `messages` (dicts as the OpenAI
    chat API has them), `request` (AgentRequest), `context` (RunContext). Without the first three of these, the first
    positional parameter gets the prompt, whatever its name and default. `capabilities` overrides what is derived from
    the parameters: an agent that sees only the prompt can take no pictures or `response_format`, and requests with
    them are refused; it is not shown the client's tools. A backend has its own.

    Raises TypeError, which says what was wrong with `agent`.
    """
    # A class has the methods of its instances, so a factory of backends would pass for one.
    if not isinstance(agent, type) and isinstance(agent, AgentBackend):
        if capabilities is not None:
            raise TypeError(f"a backend declares its capabilities itself: {describe(agent)}")
        return agent
    backend = framework_backend(agent)
    if backend is not None:
        return as_backend(backend, capabilities=capabilities)
    run: Any = None if isinstance(agent, type) else getattr(agent, "run", None)
    if callable(run):
        return CallableBackend(run, capabilities, may_make_agents=False)
    if isinstance(agent, type) and not _makes_agents(agent):
        raise TypeError(f"{describe(agent)} is a class whose objects have no run method, so they are no agents")
    if not callable(agent):
        raise TypeError(f"an agent is a function, a generator or an object with a run method, not {describe(agent)}")
    return CallableBackend(agent, capabilities)


def _makes_agents(kind: type) -> bool:
    """Whether the objects of a class can be run, or are what an agent may return, as far as the class tells."""
    if issubclass(kind, ITEM_TYPES) or kind.__new__ is not object.__new__:  # which may make anything
        return True
    made_of = [name for base in kind.__mro__ for name in (*vars(base), *getattr(base, "__annotations__", ()))]
    sets: Any = getattr(kind.__init__, "__code__", None)  # `self.run = …`
    return not RUN_BY.isdisjoint(made_of) or (sets is not None and "run" in sets.co_names)


class CallableBackend:
    """Runs a function, once for each turn; plain functions in a thread of their own, off the event loop."""

    def __init__(
        self, function: Callable[..., Any], capabilities: Capabilities | None = None, *, may_make_agents: bool = True
    ) -> None:
        self._function = function
        self._arguments = arguments_of(function, may_take_none=may_make_agents)
        self._kind = _kind(function)
        self._is_derived = capabilities is None
        self.capabilities = _described(capabilities or _derived(self._arguments.values), first_line(function))

    def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Call the function and yield what it returns or yields."""
        arguments = self._arguments
        positional = [_value(what, request, context) for what in arguments.positional]
        named = (
            {name: _value(what, request, context) for name, what in arguments.named.items()} if arguments.named else {}
        )

        if self._kind == "async generator":  # handed on as it is: a wrapper would cost each item a step
            return cast("AsyncIterator[AgentEvent | str]", self._function(*positional, **named))
        if self._kind == "coroutine":
            return _items(self._function(*positional, **named), request, context, self._learn)
        # Plain functions may block: they run off the event loop, each in a thread of its own.
        return _threaded(lambda: self._function(*positional, **named), request, context, self._learn)

    def _learn(self, made: AgentBackend) -> None:
        """What its frameworks' agents can do is only known once it has made one."""
        if self._is_derived:
            self.capabilities = _described(made.capabilities, self.capabilities.description)


def _value(what: str, request: AgentRequest, context: RunContext) -> Any:
    """The value of a parameter."""
    match what:
        case "prompt":
            return request.prompt
        case "messages":
            return request.raw_messages
        case "request":
            return request
        case _:
            return context


def _blocking_items(result: Any) -> Generator[Any]:
    """The result of a plain function as items, read in the function's thread."""
    if isinstance(result, Generator):
        with closing(cast("Generator[Any]", result)) as items:
            yield from items
    elif isinstance(result, Iterator):
        yield from cast("Iterator[Any]", result)
    else:
        yield result


async def _threaded(
    call: Callable[[], Any], request: AgentRequest, context: RunContext, learn: Learn
) -> AsyncIterator[Any]:
    """Run a plain function in its thread; what it returns may need the event loop after all."""
    async with _closing(ThreadRun(lambda: _blocking_items(call())).items()) as results:
        async for result in results:
            if isinstance(result, ITEM_TYPES):
                yield result
            else:
                async with _closing(_items(result, request, context, learn)) as items:
                    async for item in items:
                        yield item


async def _items(result: Any, request: AgentRequest, context: RunContext, learn: Learn) -> AsyncIterator[Any]:
    """The result of an agent as items: awaited, iterated, or run if it is an agent itself."""
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, ITEM_TYPES):  # nearly always, and what may be iterated takes long to be told
        yield result
        return
    if not isinstance(result, AsyncIterable):
        backend = _made(result, request, learn)
        if backend is not None:
            result = backend.run(request, context)
    if isinstance(result, AsyncIterable):
        parts = cast("AsyncIterable[Any]", result)
        try:
            async for part in parts:
                yield part
        finally:
            await close(parts)
    # Not any iterable: characters of a text and keys of a dict are no items.
    elif isinstance(result, list | tuple | Iterator):
        for part in cast("Iterable[Any]", result):
            yield part
    elif result is not None:
        yield result


def _made(result: Any, request: AgentRequest, learn: Learn) -> AgentBackend | None:
    """The backend of an agent that a function has made; None if it is something else."""
    backend = framework_backend(result, is_fresh=True)
    if backend is not None:
        learn(backend)
        _refuse_edits(backend, request.resume)
    elif callable(result) or hasattr(result, "run"):
        backend = as_backend(result)
    return backend


def _refuse_edits(backend: AgentBackend, resume: Resume | None) -> None:
    """Raise InvalidRequest for changed arguments that the agent would not run, where that was not known before it was made."""
    if resume is None or backend.capabilities.approvals == "edit":
        return
    for call_id, decision in resume.decisions.items():
        if not decision.approved or decision.arguments is None:
            continue
        asked = resume.calls.get(call_id)
        if asked is None or not same_json(decision.arguments, asked.arguments):
            text = "This agent can run the call only as it has asked about it."
            raise InvalidRequest(text, code="arguments_not_editable")


def _closing(items: AsyncIterator[Any]) -> aclosing[AsyncGenerator[Any]]:
    return aclosing(cast("AsyncGenerator[Any]", items))


async def close(items: object) -> None:
    """Close an async iterator in the task that reads it, if it is one that can be closed."""
    aclose = getattr(items, "aclose", None)
    if aclose is not None:
        await aclose()


def _kind(function: Callable[..., Any]) -> str:
    function = bare_function(function)
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = cast("Any", function).__call__
    if inspect.isasyncgenfunction(function):
        return "async generator"
    return "coroutine" if inspect.iscoroutinefunction(function) else "plain"


def _described(capabilities: Capabilities, text: str | None) -> Capabilities:
    """With a description, unless they have one."""
    return capabilities if text is None or capabilities.description else replace(capabilities, description=text)


def _derived(wanted: frozenset[str]) -> Capabilities:
    """Capabilities derived from an agent's parameters. A factory has none, and may take everything."""
    if not wanted or "request" in wanted:
        return Capabilities()
    sees_parts = "messages" in wanted
    return Capabilities(
        history="full" if sees_parts else "last_user",
        client_tools=False,  # no error: clients send their tools with every request, and a call is only an offer
        vision=sees_parts,
        audio_input=sees_parts,
        files=sees_parts,
        structured_output=False,
    )
