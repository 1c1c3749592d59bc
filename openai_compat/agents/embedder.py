"""Embed functions: texts in, one vector for each of them out."""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Callable, Generator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from typing import Any, TypeAlias, cast

from ..aio.worker_thread import ThreadRun
from ..errors import AgentError
from ..wire.embeddings import EmbeddingInput, Vector, is_finite
from .describe import describe
from .signatures import bare_function

EmbedFunction: TypeAlias = Callable[..., Any]
"""`def` or `async def embed(texts: list[str]) -> Sequence[Sequence[float]]`."""

ARGUMENTS = ("texts", "tokens", "dimensions", "user")


class Embedder:
    """Calls an embed function; a plain one in a thread of its own, off the event loop.

    Arguments are given by parameter name: `texts`, `tokens`, `dimensions`, `user`. A single parameter of any other
    name gets the texts. Those that have a default are given only if the client sent them. Raises TypeError for what
    is no such function.

    Attributes:
        takes: the names of ours that the function has.
    """

    def __init__(self, function: EmbedFunction) -> None:
        self._function = function
        self._required, self.takes = _parameters(function)
        bare = bare_function(function)
        self._is_async = inspect.iscoroutinefunction(bare if inspect.isroutine(bare) else type(bare).__call__)

    async def embed(self, asked: EmbeddingInput) -> list[Vector]:
        """One vector for each input.

        Raises AgentError (500 `invalid_embedding`) for anything else that is returned, and what the function raises.
        """
        call = self._call(asked)
        result = await (call() if self._is_async else _threaded(call))
        try:
            return _vectors(result, asked)
        except Exception as error:
            text = "The embed function did not return one vector of numbers for each input."
            raise AgentError(text, code="invalid_embedding") from error

    def _call(self, asked: EmbeddingInput) -> Callable[[], Any]:
        texts, tokens = list(asked.texts), [list(numbers) for numbers in asked.tokens]
        sent = {"texts": texts, "tokens": tokens, "dimensions": asked.dimensions, "user": asked.user}
        given = {name: sent[name] for name in self.takes if sent[name] or name in self._required}
        if "texts" in self.takes:
            return lambda: self._function(**{**given, "texts": texts})
        return lambda: self._function(texts, **given)


def _parameters(function: object) -> tuple[frozenset[str], frozenset[str]]:
    """Those of our names that must be given, and all that there are; the texts may go to another one."""
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"an embed function takes texts and returns vectors, {describe(function)} does not")
    try:
        found = [
            p
            for p in inspect.signature(function).parameters.values()
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
    except (TypeError, ValueError):  # a builtin without a signature
        found = [inspect.Parameter("items", inspect.Parameter.POSITIONAL_ONLY)]
    named = {p.name: p for p in found if p.name in ARGUMENTS and p.kind is not p.POSITIONAL_ONLY}
    others = [p.name for p in found if p.default is p.empty and p.name not in named]
    if len(others) > 1 or ("texts" in named) is bool(others):
        names = ", ".join([p.name for p in found]) or "none"
        raise TypeError(
            f"{describe(function)} has parameters {names}; an embed function may have: {', '.join(ARGUMENTS)}"
        )
    required = frozenset([name for name, p in named.items() if p.default is p.empty])
    return required, frozenset(named)


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


def _vectors(result: Any, asked: EmbeddingInput) -> list[Vector]:
    """Raises ValueError, or whatever comes of odd objects."""
    vectors = [array("d", _listed(vector)) for vector in _listed(result)]
    length = asked.dimensions or (len(vectors[0]) if vectors else 0)
    if len(vectors) != asked.number or not length:
        raise ValueError(f"{len(vectors)} vectors for {asked.number} inputs")
    for vector in vectors:
        if len(vector) != length or not is_finite(vector):
            raise ValueError(f"vectors need {length} finite numbers each")
    return vectors


def _listed(value: Any) -> Sequence[Any]:
    """Sequences of any library (`__len__` and `__getitem__`), but none that is no list of numbers or vectors."""
    other = isinstance(value, str | bytes | bytearray | memoryview | Mapping | AbstractSet)
    if other or not hasattr(value, "__len__") or not hasattr(value, "__getitem__"):
        raise TypeError("no list")
    return cast("Sequence[Any]", value.tolist() if hasattr(value, "tolist") else value)
