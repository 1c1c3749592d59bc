"""Tools: their description for a model, and their execution.

    @tool(danger="safe")
    async def weather(city: str) -> str:
        '''The weather of a city, called by its English name.'''

A function without the decorator is also a tool, with danger "risky".
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, TypeVar, overload, runtime_checkable

import anyio
from pydantic_core import PydanticSerializationError, from_json

from ..agent_request import AgentRequest, FunctionTool
from ..agents.describe import describe
from ..backend import RunContext
from .docstring import read_docstring
from .modes import DANGERS, Danger
from .patterns import Allow, ArgvPattern, ExactArguments, canonical_json, parse_allow
from .sandbox import Sandbox
from .schema import Signature
from .tool_threads import ToolThreads

TIMEOUT = 60.0
"""Seconds that a call may take."""

OUTPUT_LIMIT = 50_000
"""Maximum length of a result that the model gets, in characters."""

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MARK = "__openai_compat_tool__"

Function = TypeVar("Function", bound=Callable[..., Any])
AllowWord: TypeAlias = str | Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The context of a call, passed to any tool that has an argument of this type.

    `sandbox` is the sandbox in which a command must run; None if it may run unconfined. `run.cancelled` tells a plain
    function that the call was cancelled.
    """

    call_id: str
    request: AgentRequest
    run: RunContext
    sandbox: Sandbox | None = None


@dataclass(frozen=True, slots=True)
class ToolArguments:
    """A call's arguments: `given` as written by the model, `values` as passed to the tool."""

    given: Mapping[str, Any]
    values: Mapping[str, Any]


Call: TypeAlias = Callable[[Mapping[str, Any], ToolContext], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTool:
    """A tool that the agent runs itself.

    Attributes:
        name: the tool's name for the model.
        description: the tool's description for the model.
        parameters: JSON Schema of the arguments.
        read: parses and validates the arguments' JSON text. Raises ToolError.
        call: runs the tool. Raises ToolError for a failure with a text for the model.
        danger: danger of the tool, for the security modes.
        timeout: seconds that a call may take.
        output_limit: maximum length of the result that the model gets, in characters.
        allow: calls that the mode "allowlist" runs without approval.
        argv: for tools that run a command, returns its words from the validated arguments.
        argv_names: the arguments that `argv` reads: a pattern allows no other arguments than those it names.
        defaults: known default values of arguments.
        sandboxable: True if the tool obeys `ToolContext.sandbox`.

    Raises ValueError for a name that no API accepts, an unknown danger, or an allow-list that could never apply.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    read: Callable[[str], dict[str, Any]]
    call: Call
    danger: Danger = "risky"
    timeout: float = TIMEOUT
    output_limit: int = OUTPUT_LIMIT
    allow: tuple[Allow, ...] = ()
    argv: Callable[[Mapping[str, Any]], Sequence[str]] | None = None
    argv_names: frozenset[str] = frozenset({"argv"})
    defaults: Mapping[str, object] = field(default_factory=dict[str, object])
    sandboxable: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"a tool's name has up to 64 letters, digits, '_' and '-', unlike {self.name!r}")
        if self.danger not in DANGERS:
            raise ValueError(f"danger is one of {', '.join(DANGERS)}, not {self.danger!r}")
        if self.timeout <= 0 or self.output_limit <= 0:
            raise ValueError(f"the tool '{self.name}' needs a timeout and an output limit above 0")
        if self.allow and self.danger == "dangerous":
            raise ValueError(
                f"the tool '{self.name}' is dangerous, so that each call is asked about: `allow` is in vain"
            )
        if self.argv is None and any([isinstance(allow, ArgvPattern) for allow in self.allow]):
            raise ValueError(f"the tool '{self.name}' runs no command: `allow` takes exact arguments, as dicts")

    @property
    def offer(self) -> FunctionTool:
        """The tool as offered to a model."""
        return FunctionTool(self.name, self.description or None, self.parameters)

    def check(self, text: str) -> ToolArguments:
        """Parse and validate arguments in JSON text. Raises ToolError, which tells the model what is wrong."""
        values = self.read(text)
        return ToolArguments(from_json(text or "{}"), values)

    def allows(self, allowed: Iterable[Allow], arguments: ToolArguments) -> bool:
        """True if one of the allow-list entries covers a call with these arguments."""
        named = self._changed_arguments(arguments)
        for one in allowed:
            if isinstance(one, ExactArguments):
                # With and without arguments at their defaults: both mean the same call.
                if one.matches(arguments.given) or one.matches(named):
                    return True
            elif self.argv is not None and one.matches(self.argv(arguments.values), self._other_arguments(named)):
                return True
        return False

    def always(self, arguments: ToolArguments, pattern: str | None = None) -> Allow:
        """Return the allow-list entry that "allow always" adds for this call: its exact arguments.

        A person may choose a pattern for the words of its command; all other arguments must then equal those of this call.
        Raises ValueError for an invalid pattern.
        """
        named = self._changed_arguments(arguments)
        words = () if self.argv is None else tuple(self.argv(arguments.values))
        if not words:
            return ExactArguments(canonical_json(named))
        allow = ArgvPattern(words, exact=True) if pattern is None else ArgvPattern.parse(pattern)
        return replace(allow, others=canonical_json(self._other_arguments(named)))

    def _changed_arguments(self, arguments: ToolArguments) -> dict[str, Any]:
        """Return the given arguments that are not at their defaults."""
        return {name: value for name, value in arguments.given.items() if not self._is_default(name, arguments.values)}

    def _is_default(self, name: str, values: Mapping[str, Any]) -> bool:
        if name not in self.defaults or name not in values:
            return False
        try:
            return canonical_json(values[name]) == canonical_json(self.defaults[name])
        except PydanticSerializationError:  # unknown
            return False

    def _other_arguments(self, named: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in named.items() if name not in self.argv_names}


@runtime_checkable
class ToolSource(Protocol):
    """A source of tools that are only known when it is asked."""

    @property
    def name(self) -> str:
        """The source's name in messages to people."""
        ...

    async def tools(self) -> Sequence[AgentTool]:
        """Return the current tools. Raises OSError or TimeoutError if the source cannot be reached."""
        ...

    async def aclose(self) -> None:
        """Release the resources that it holds on this event loop."""
        ...


@dataclass(frozen=True, slots=True)
class Listing:
    """The tools of a toolbox at one time, by name, and the sources that could not be reached, with the error."""

    tools: Mapping[str, AgentTool]
    unreachable: Mapping[str, Exception] = field(default_factory=dict[str, Exception])


class Toolbox:
    """Tools by name: functions, tools and tool sources. Raises ValueError if two tools have the same name.

    If a source has a tool of an existing name, the earlier tool wins.
    """

    def __init__(self, tools: Iterable[Callable[..., Any] | AgentTool | ToolSource] = ()) -> None:
        self._fixed: dict[str, AgentTool] = {}
        self._sources: list[ToolSource] = []
        for each in tools:
            if isinstance(each, ToolSource):
                self._sources.append(each)
            else:
                made = as_tool(each)
                if made.name in self._fixed:
                    raise ValueError(f"two tools are called '{made.name}'")
                self._fixed[made.name] = made

    @property
    def names(self) -> frozenset[str]:
        """The names of the tools that do not come from a source."""
        return frozenset(self._fixed)

    def danger_of(self, name: str) -> Danger | None:
        """Return the danger of a tool; None if it is unknown, or comes from a source."""
        found = self._fixed.get(name)
        return None if found is None else found.danger

    async def listing(self) -> Listing:
        """Return all current tools."""
        if not self._sources:
            return Listing(dict(self._fixed), {})
        found: dict[int, Sequence[AgentTool]] = {}
        unreachable: dict[str, Exception] = {}

        async def list_tools(index: int, source: ToolSource) -> None:
            try:
                found[index] = await source.tools()
            except OSError as error:  # includes TimeoutError
                unreachable[source.name] = error

        # Concurrently: the wait for a slow source would add to those for the others.
        async with anyio.create_task_group() as group:
            for index, source in enumerate(self._sources):
                group.start_soon(list_tools, index, source)
        tools = dict(self._fixed)
        for index in sorted(found):
            # Earlier tools win: a remote server cannot replace one of our functions.
            tools = {each.name: each for each in found[index]} | tools
        return Listing(tools, unreachable)

    async def aclose(self) -> None:
        """Close the sources on this event loop."""
        for source in self._sources:
            await source.aclose()


@dataclass(frozen=True, slots=True)
class _Settings:
    name: str | None = None
    description: str | None = None
    danger: Danger = "risky"
    timeout: float = TIMEOUT
    output_limit: int = OUTPUT_LIMIT
    allow: tuple[AllowWord, ...] = ()


@overload
def tool(function: Function, /) -> Function: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    danger: Danger = "risky",
    timeout: float = TIMEOUT,
    output_limit: int = OUTPUT_LIMIT,
    allow: Sequence[AllowWord] = (),
) -> Callable[[Function], Function]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    danger: Danger = "risky",
    timeout: float = TIMEOUT,
    output_limit: int = OUTPUT_LIMIT,
    allow: Sequence[AllowWord] = (),
) -> Callable[..., Any]:
    """Configure a function as a tool; the function itself is not changed.

    Args:
        function: the function, if the decorator is used without arguments.
        name: the tool's name for the model; by default the function's name.
        description: the tool's description for the model; by default the function's docstring.
        danger: "safe" for tools that run without approval, "dangerous" for those that need it each time.
        timeout: seconds that a call may take.
        output_limit: maximum length of the result that the model gets, in characters; the rest is cut off.
        allow: calls that need no approval in the mode "allowlist": arguments as dicts, and, for a function with an
            argument `argv: list[str]`, patterns ("git status") and lists of words. These allow a call with all other
            arguments at their defaults; `{"argv": "git status", "cwd": "/srv"}` also names other arguments.

    Raises TypeError for a function that cannot be a tool, ValueError for contradictory settings.
    """
    kept = _Settings(name, description, danger, timeout, output_limit, tuple(allow))

    def mark(marked: Callable[..., Any]) -> Callable[..., Any]:
        setattr(marked, MARK, kept)
        if next(iter(inspect.signature(marked).parameters), None) != "self":  # a method is only a tool with its object
            as_tool(marked)  # report errors at the definition
        return marked

    return mark if function is None else mark(function)


def as_tool(function: Callable[..., Any] | AgentTool) -> AgentTool:
    """Make a tool from a typed function. Raises TypeError or ValueError with the reason if that is not possible."""
    if isinstance(function, AgentTool):
        return function
    if not inspect.isroutine(function):
        raise TypeError(f"a tool is a function or a method, an AgentTool or a ToolSource, not {describe(function)}")
    settings: _Settings = getattr(function, MARK, None) or _Settings()
    signature = Signature(function, ToolContext)
    return AgentTool(
        name=settings.name or function.__name__,
        description=settings.description or read_docstring(function).text,
        parameters=signature.parameters,
        read=signature.read,
        call=_make_call(function, signature.context),
        danger=settings.danger,
        timeout=settings.timeout,
        output_limit=settings.output_limit,
        allow=tuple([parse_allow(allow) for allow in settings.allow]),
        argv=(lambda arguments: arguments.get("argv", ())) if "argv" in signature.names else None,
        defaults=signature.defaults,
    )


def _make_call(function: Callable[..., Any], context_name: str | None) -> Call:
    """Return a function that calls the tool: awaited, or in a separate thread."""
    threads = ToolThreads()

    async def call(arguments: Mapping[str, Any], context: ToolContext) -> object:
        given = dict(arguments) if context_name is None else {**arguments, context_name: context}
        if inspect.iscoroutinefunction(function):
            return await function(**given)
        # A plain function may block, which would stop every other turn of this event loop.
        result = await threads.run(lambda: function(**given))
        return await result if inspect.isawaitable(result) else result

    return call
