"""Calls user functions that are no agents (embed and decide functions): their arguments and their threads."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import aclosing
from typing import Any, cast

from .describe import describe
from .signatures import unwrap_partial
from .worker_thread import ThreadRun


def parameters_of(function: object, what: str) -> list[inspect.Parameter]:
    """The parameters of a function, without `*args` and `**kwargs`. Raises TypeError for anything but a function."""
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"{what}, {describe(function)} does not")
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return [inspect.Parameter("items", inspect.Parameter.POSITIONAL_ONLY)]
    return [each for each in found if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]


def named_parameters(parameters: Sequence[inspect.Parameter], names: Sequence[str]) -> dict[str, inspect.Parameter]:
    """The parameters with one of `names` that can be passed by keyword."""
    return {each.name: each for each in parameters if each.name in names and each.kind is not each.POSITIONAL_ONLY}


def unknown_required(parameters: Sequence[inspect.Parameter], named: dict[str, inspect.Parameter]) -> list[str]:
    """The names of the required parameters that are not in `named`."""
    return [each.name for each in parameters if each.default is each.empty and each.name not in named]


class FunctionCaller:
    """Calls a function; a plain (blocking) one runs in a dedicated thread, off the event loop."""

    def __init__(self, function: Callable[..., Any]) -> None:
        bare = unwrap_partial(function)
        self._is_async = inspect.iscoroutinefunction(bare if inspect.isroutine(bare) else type(bare).__call__)

    async def run(self, call: Callable[[], Any]) -> Any:
        """Return the result of `call`, which calls the function."""
        return await (call() if self._is_async else _run_in_thread(call))


async def _run_in_thread(call: Callable[[], Any]) -> Any:
    returned: list[Any] = []

    # Kept here too, so that a coroutine is closed even if nobody reads the result.
    def run_call() -> Generator[Any]:
        returned.append(call())
        yield returned[0]

    try:
        async with aclosing(cast("Any", ThreadRun(run_call).items())) as results:
            result = await anext(results)
        return await result if inspect.isawaitable(result) else result
    except BaseException:
        for result in returned:
            if inspect.iscoroutine(result):  # nothing will await it
                result.close()
        raise
