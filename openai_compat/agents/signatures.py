"""Maps the parameters of an agent's function to the values that the function is called with."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from .describe import describe

ARGUMENTS = ("prompt", "messages", "request", "context")
MESSAGE_ARGUMENTS = ("prompt", "messages", "request")
"""The arguments that carry the user's message."""

Parameter = inspect.Parameter

BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class AgentArguments:
    """The values to call a function with: names of `ARGUMENTS`, by position and (in `named`) by keyword."""

    positional: tuple[str, ...]
    named: Mapping[str, str]

    @property
    def values(self) -> frozenset[str]:
        """The names of all values that the function accepts."""
        return frozenset({*self.positional, *self.named.values()})


def arguments_of(function: Callable[..., Any], *, may_take_none: bool) -> AgentArguments:
    """Find the arguments to call `function` with.

    A parameter with a name of `ARGUMENTS` gets the value of that name. If none of these carries the user's message,
    the prompt goes to the first positional parameter, whatever its default, or to `*args`. With `may_take_none`, a
    function without parameters makes an agent for each turn, as does a class whose parameters all have defaults.

    Raises TypeError, with advice, for a function that would miss the user's message or a required argument.
    """
    parameters = _parameters(function)
    free = _unbound_parameters(function, parameters)
    given = {p.name: p.name for p in free if p.name in ARGUMENTS and p.kind not in VARIABLE}
    prompt_parameter = _prompt_parameter(free, given, is_class=isinstance(unwrap_partial(function), type))
    if prompt_parameter is not None:
        given[prompt_parameter.name] = "prompt"
    _check_arguments(function, free, given, may_take_none=may_take_none)
    positional: list[str] = []
    for parameter in parameters:  # positional while possible: a decorator may rename its parameters
        if parameter.kind is Parameter.KEYWORD_ONLY or parameter.name not in given:
            break
        positional.append(given.pop(parameter.name))
    if any([p.kind is Parameter.POSITIONAL_ONLY and p.name in given for p in parameters]):
        known = ", ".join(ARGUMENTS)
        raise TypeError(f"{describe(function)} has others before its parameters {known}, which are positional-only")
    return AgentArguments(tuple(positional), given)


def _prompt_parameter(free: list[Parameter], given: Mapping[str, str], *, is_class: bool) -> Parameter | None:
    """The parameter that gets the prompt under another name: the first one, or the only required one."""
    message_parameters = [p for p in free if p.name in given and p.name in MESSAGE_ARGUMENTS]
    if "prompt" in given:
        return None
    first = next((p for p in free if p.name != "context" and p.kind is not Parameter.VAR_KEYWORD), None)
    # The first parameter of a class configures its object; the message goes to the object.
    if first is not None and first not in message_parameters and not is_class:
        is_needed = first.kind in BY_POSITION and first.default is first.empty
        is_asked = any([p.default is p.empty for p in message_parameters])
        if is_needed or (first.kind in BY_POSITION and not is_asked):
            return first
        if first.kind is Parameter.VAR_POSITIONAL and not message_parameters:
            return first
    needed = [p for p in free if p.default is p.empty and p.name not in given and p.kind not in VARIABLE]
    return needed[0] if len(needed) == 1 and not message_parameters else None


def _check_arguments(
    function: Callable[..., Any], free: list[Parameter], given: Mapping[str, str], *, may_take_none: bool
) -> None:
    """Raise TypeError if the user's message would be lost or a required argument would be missing."""
    name, known = describe(function), ", ".join(ARGUMENTS)
    missing = [p.name for p in free if p.default is p.empty and p.name not in given and p.kind not in VARIABLE]
    if missing:
        unknown = [p.name for p in free if p.default is p.empty and p.name not in ARGUMENTS and p.kind not in VARIABLE]
        text = f"{name} has parameters {', '.join(unknown)}; an agent may have: {known}"
        raise TypeError(f"{text}; a function with fewer parameters can call it, and give it what it needs")
    if free and free[0].name == "self" and inspect.isfunction(unwrap_partial(function)):
        raise TypeError(f"{name} is a method of a class: hand over an object, or the method of one")
    if isinstance(unwrap_partial(function), type) or not set(MESSAGE_ARGUMENTS).isdisjoint(given.values()):
        return
    if [p.name for p in free] == ["context"]:  # it accepts only the context of the caller
        return
    if free or not may_take_none:
        text = f"{name} has no parameter for the user's message: give it a first one for the text"
        raise TypeError(f"{text}, or some of: {known}")


def unwrap_partial(function: Any) -> Any:
    """Unwrap `functools.partial`; return anything else unchanged."""
    while isinstance(function, functools.partial):
        function = cast("functools.partial[Any]", function).func
    return function


def _unbound_parameters(function: Callable[..., Any], parameters: list[Parameter]) -> list[Parameter]:
    """The parameters that a `functools.partial` has not bound yet.

    `inspect` shows the parameters behind a bound keyword as keyword-only; here they keep their original kind.
    """
    bound: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        partial = cast("functools.partial[Any]", function)
        bound, function = {**bound, **partial.keywords}, partial.func
    if not bound:
        return parameters
    before = {p.name for p in _parameters(function) if p.kind in BY_POSITION}
    free = [p for p in parameters if p.name not in bound]
    kept = [p.replace(kind=Parameter.POSITIONAL_OR_KEYWORD) if p.name in before else p for p in free]
    # Restore the order of a valid signature: keyword-only parameters come last.
    return sorted(kept, key=lambda p: p.kind)


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a callable: those of a decorator, or of the wrapped function if the decorator passes all arguments on."""
    own = _signature(function, follow_wrapped=False)
    kinds = {p.kind for p in own or ()}
    if own is None or (kinds and kinds <= set(VARIABLE) and not hasattr(function, "__wrapped__")):
        followed = _signature(function, follow_wrapped=True)
        return followed if followed is not None else [Parameter("prompt", Parameter.POSITIONAL_ONLY)]
    wrapped: Any = getattr(function, "__wrapped__", None)
    if wrapped is None or not kinds or not kinds <= set(VARIABLE):
        return own
    inner = _parameters(wrapped)
    # `__wrapped__` is the plain function, whose `self` is bound already.
    if inspect.ismethod(function) and inner and inner[0].kind in BY_POSITION:
        inner = inner[1:]
    if kinds == set(VARIABLE):
        return inner
    only = Parameter.POSITIONAL_ONLY if Parameter.VAR_POSITIONAL in kinds else Parameter.KEYWORD_ONLY
    return [p.replace(kind=only) for p in inner if p.kind not in VARIABLE]


def _signature(function: Callable[..., Any], *, follow_wrapped: bool) -> list[Parameter] | None:
    try:
        return list(inspect.signature(function, follow_wrapped=follow_wrapped).parameters.values())
    except (TypeError, ValueError):  # builtins may have none
        return None
