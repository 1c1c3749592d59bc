"""Functions of users that answer a request beside the agents: what they are given, and where they run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import aclosing
from typing import Any, cast

from .describe import describe
from .signatures import bare_function
from .worker_thread import ThreadRun


def parameters_of(function: object, what: str) -> list[inspect.Parameter]:
    """The parameters of a function, those that take all the rest left out. Raises TypeError for what is none."""
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"{what}, {describe(function)} does not")
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return [inspect.Parameter("items", inspect.Parameter.POSITIONAL_ONLY)]
    return [each for each in found if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]


def by_name(parameters: Sequence[inspect.Parameter], names: Sequence[str]) -> dict[str, inspect.Parameter]:
    """Those of them that have one of `names`, and can be given by it."""
    return {each.name: each for each in parameters if each.name in names and each.kind is not each.POSITIONAL_ONLY}


def others(parameters: Sequence[inspect.Parameter], named: dict[str, inspect.Parameter]) -> list[str]:
    """The names of those that have to be given and are none of `named`."""
    return [each.name for each in parameters if each.default is each.empty and each.name not in named]


class FunctionCaller:
    """Calls a function, a plain one in a thread of its own, off the event loop."""

    def __init__(self, function: Callable[..., Any]) -> None:
        bare = bare_function(function)
        self._is_async = inspect.iscoroutinefunction(bare if inspect.isroutine(bare) else type(bare).__call__)

    async def result(self, call: Callable[[], Any]) -> Any:
        """What `call`, which calls the function, returns."""
        return await (call() if self._is_async else _threaded(call))


async def _threaded(call: Callable[[], Any]) -> Any:
    kept: list[Any] = []

    # Kept here too: where nobody reads it any more, a coroutine among it has to be closed.
    def returned() -> Generator[Any]:
        kept.append(call())
        yield kept[0]

    try:
        async with aclosing(cast("Any", ThreadRun(returned).items())) as results:
            result = await anext(results)
        return await result if inspect.isawaitable(result) else result
    except BaseException:
        for result in kept:
            if inspect.iscoroutine(result):  # nobody is left to await it
                result.close()
        raise
