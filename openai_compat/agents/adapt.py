"""Turns functions, generators, objects with `run` and factories into backends."""

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
from ..wire.json import is_same_json
from .describe import describe, first_line
from .frameworks import framework_backend
from .signatures import arguments_of, unwrap_partial
from .worker_thread import ThreadRun


class HasRun(Protocol):
    """An object with a `run` method: a function of any supported kind."""

    @property
    def run(self) -> Callable[..., Any]:
        """The function, called once for each turn."""
        ...


class Graph(Protocol):
    """A compiled graph of LangGraph, typed by its methods so that no framework is imported."""

    @property
    def astream(self) -> Callable[..., Any]:
        """Runs the graph and yields its stream; called once for each turn."""
        ...

    @property
    def aget_state(self) -> Callable[..., Any]:
        """Reads the state of a thread from the checkpointer."""
        ...


Agent: TypeAlias = AgentBackend | Callable[..., Any] | HasRun | Graph
"""Anything `as_backend` accepts."""

AdoptBackend: TypeAlias = Callable[[AgentBackend], None]
"""Callback that receives the backend of a framework's agent, once a function has made the agent."""

ITEM_TYPES = (str, *EVENT_TYPES)

RUN_METHODS = frozenset({"run", "__call__", "__aiter__", "__iter__", "__await__", "__getattr__"})
"""Methods by which an object can be run; the product of a factory has at least one of them."""


def as_backend(agent: Agent, *, capabilities: Capabilities | None = None) -> AgentBackend:
    """Make a backend of an agent.

    Accepts a function, a coroutine function, a sync or async generator function, an object whose `run` method is one of
    these, a supported object of an agent framework, a backend, or a factory: a function or class that makes one of the
    above (for agents that hold one conversation, so that every turn needs a new agent).

    Arguments are passed by parameter name: `prompt` (text of the last user message), `messages` (dicts in the format of
    OpenAI's chat API), `request` (AgentRequest), `context` (RunContext). Without any of the first three, the first
    positional parameter gets the prompt, whatever its name and default. `capabilities` overrides the capabilities
    derived from the parameters: an agent that sees only the prompt does not get the client's tools, and requests with
    pictures or `response_format` are refused. A backend declares its own capabilities.

    Raises TypeError, with the reason, if `agent` is none of these.
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
    if isinstance(agent, type) and not _is_agent_class(agent):
        raise TypeError(f"{describe(agent)} is a class whose objects have no run method, so they are no agents")
    if not callable(agent):
        raise TypeError(f"an agent is a function, a generator or an object with a run method, not {describe(agent)}")
    return CallableBackend(agent, capabilities)


def _is_agent_class(kind: type) -> bool:
    """True if the objects of a class can be run or are valid items, as far as the class shows."""
    if issubclass(kind, ITEM_TYPES) or kind.__new__ is not object.__new__:  # `__new__` may make anything
        return True
    attributes = [name for base in kind.__mro__ for name in (*vars(base), *getattr(base, "__annotations__", ()))]
    sets: Any = getattr(kind.__init__, "__code__", None)  # `self.run = …`
    return not RUN_METHODS.isdisjoint(attributes) or (sets is not None and "run" in sets.co_names)


class CallableBackend:
    """Runs a function once for each turn; a plain (blocking) one in a dedicated thread, off the event loop."""

    def __init__(
        self, function: Callable[..., Any], capabilities: Capabilities | None = None, *, may_make_agents: bool = True
    ) -> None:
        self._function = function
        self._arguments = arguments_of(function, may_take_none=may_make_agents)
        self._function_kind = _function_kind(function)
        self._is_derived = capabilities is None
        self.capabilities = _with_description(
            capabilities or _derive_capabilities(self._arguments.values), first_line(function)
        )

    def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Call the function and yield what it returns or yields."""
        arguments = self._arguments
        positional = [_argument_value(what, request, context) for what in arguments.positional]
        named = (
            {name: _argument_value(what, request, context) for name, what in arguments.named.items()}
            if arguments.named
            else {}
        )

        if self._function_kind == "async generator":  # passed on unwrapped: a wrapper would cost each item a step
            return cast("AsyncIterator[AgentEvent | str]", self._function(*positional, **named))
        if self._function_kind == "coroutine":
            return _result_items(self._function(*positional, **named), request, context, self._adopt_capabilities)
        # Plain functions may block, so each runs in a dedicated thread, off the event loop.
        return _run_in_thread(lambda: self._function(*positional, **named), request, context, self._adopt_capabilities)

    def _adopt_capabilities(self, backend: AgentBackend) -> None:
        """Adopt the capabilities of a framework's agent, which are unknown until the function has made the agent."""
        if self._is_derived:
            self.capabilities = _with_description(backend.capabilities, self.capabilities.description)


def _argument_value(what: str, request: AgentRequest, context: RunContext) -> Any:
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


async def _run_in_thread(
    call: Callable[[], Any], request: AgentRequest, context: RunContext, adopt: AdoptBackend
) -> AsyncIterator[Any]:
    """Run a plain function in its thread; its result (an awaitable, an agent) may still need the event loop."""
    async with _closing(ThreadRun(lambda: _blocking_items(call())).items()) as results:
        async for result in results:
            if isinstance(result, ITEM_TYPES):
                yield result
            else:
                async with _closing(_result_items(result, request, context, adopt)) as items:
                    async for item in items:
                        yield item


async def _result_items(
    result: Any, request: AgentRequest, context: RunContext, adopt: AdoptBackend
) -> AsyncIterator[Any]:
    """The result of an agent as items: awaited, iterated, or run if the result is another agent."""
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, ITEM_TYPES):  # the usual case; the checks for iterables are slow
        yield result
        return
    if not isinstance(result, AsyncIterable):
        backend = _find_backend(result, request, adopt)
        if backend is not None:
            result = backend.run(request, context)
    if isinstance(result, AsyncIterable):
        parts = cast("AsyncIterable[Any]", result)
        try:
            async for part in parts:
                yield part
        finally:
            await close(parts)
    # Only these iterables: the characters of a string and the keys of a dict are no items.
    elif isinstance(result, list | tuple | Iterator):
        for part in cast("Iterable[Any]", result):
            yield part
    elif result is not None:
        yield result


def _find_backend(result: Any, request: AgentRequest, adopt: AdoptBackend) -> AgentBackend | None:
    """The backend of an agent that a function has made; None if the result is no agent."""
    backend = framework_backend(result, is_fresh=True)
    if backend is not None:
        adopt(backend)
        _refuse_edits(backend, request.resume)
    elif callable(result) or hasattr(result, "run"):
        backend = as_backend(result)
    return backend


def _refuse_edits(backend: AgentBackend, resume: Resume | None) -> None:
    """Raise InvalidRequest for edited arguments if the agent, whose capabilities are known only now, cannot run edited calls."""
    if resume is None or backend.capabilities.approvals == "edit":
        return
    for call_id, decision in resume.decisions.items():
        if not decision.approved or decision.arguments is None:
            continue
        call = resume.calls.get(call_id)
        if call is None or not is_same_json(decision.arguments, call.arguments):
            text = "This agent can run the call only as it has asked about it."
            raise InvalidRequest(text, code="arguments_not_editable")


def _closing(items: AsyncIterator[Any]) -> aclosing[AsyncGenerator[Any]]:
    return aclosing(cast("AsyncGenerator[Any]", items))


async def close(items: object) -> None:
    """Close an async iterator, if it has `aclose`, in the task that reads the iterator."""
    aclose = getattr(items, "aclose", None)
    if aclose is not None:
        await aclose()


def _function_kind(function: Callable[..., Any]) -> str:
    function = unwrap_partial(function)
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = cast("Any", function).__call__
    if inspect.isasyncgenfunction(function):
        return "async generator"
    return "coroutine" if inspect.iscoroutinefunction(function) else "plain"


def _with_description(capabilities: Capabilities, text: str | None) -> Capabilities:
    """The capabilities with `text` as description, unless they have a description."""
    return capabilities if text is None or capabilities.description else replace(capabilities, description=text)


def _derive_capabilities(accepted: frozenset[str]) -> Capabilities:
    """Derive capabilities from an agent's parameters. A factory has no parameters and gets all capabilities."""
    if not accepted or "request" in accepted:
        return Capabilities()
    sees_parts = "messages" in accepted
    return Capabilities(
        history="full" if sees_parts else "last_user",
        client_tools=False,  # no error for the client, which sends its tools with every request: tools are only an offer
        vision=sees_parts,
        audio_input=sees_parts,
        files=sees_parts,
        structured_output=False,
    )
