"""Embed functions: texts in, one vector per text out."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias, cast

from ..errors import AgentError
from ..wire.embeddings import EmbeddingInput, Vector, is_finite
from .describe import describe
from .function_call import FunctionCaller, named_parameters, parameters_of, unknown_required

EmbedFunction: TypeAlias = Callable[..., Any]
"""`def` or `async def embed(texts: list[str]) -> Sequence[Sequence[float]]`."""

ARGUMENTS = ("texts", "tokens", "dimensions", "user")


class Embedder:
    """Calls an embed function; a plain (blocking) one in a dedicated thread, off the event loop.

    Arguments are passed by parameter name: `texts`, `tokens`, `dimensions`, `user`. A single parameter of any other
    name gets the texts. A parameter with a default is passed only if the client sent a value. Raises TypeError for
    anything but an embed function.

    Attributes:
        takes: the names in `ARGUMENTS` that the function accepts.
    """

    def __init__(self, function: EmbedFunction) -> None:
        self._function = function
        self._required, self.takes = _parameters(function)
        self._caller = FunctionCaller(function)

    async def embed(self, embedding_input: EmbeddingInput) -> list[Vector]:
        """Return one vector for each input.

        Raises AgentError (500 `invalid_embedding`) for any other return value; the function's exceptions pass through.
        """
        result = await self._caller.run(self._make_call(embedding_input))
        try:
            return _to_vectors(result, embedding_input)
        except Exception as error:
            text = "The embed function did not return one vector of numbers for each input."
            raise AgentError(text, code="invalid_embedding") from error

    def _make_call(self, embedding_input: EmbeddingInput) -> Callable[[], Any]:
        texts, tokens = list(embedding_input.texts), [list(numbers) for numbers in embedding_input.tokens]
        sent = {
            "texts": texts,
            "tokens": tokens,
            "dimensions": embedding_input.dimensions,
            "user": embedding_input.user,
        }
        given = {name: sent[name] for name in self.takes if sent[name] or name in self._required}
        if "texts" in self.takes:
            return lambda: self._function(**{**given, "texts": texts})
        return lambda: self._function(texts, **given)


def _parameters(function: object) -> tuple[frozenset[str], frozenset[str]]:
    """The required and all accepted names of `ARGUMENTS`; the texts may go to a parameter of another name."""
    found = parameters_of(function, "an embed function takes texts and returns vectors")
    named = named_parameters(found, ARGUMENTS)
    more = unknown_required(found, named)
    if len(more) > 1 or ("texts" in named) is bool(more):
        names = ", ".join([p.name for p in found]) or "none"
        raise TypeError(
            f"{describe(function)} has parameters {names}; an embed function may have: {', '.join(ARGUMENTS)}"
        )
    required = frozenset([name for name, p in named.items() if p.default is p.empty])
    return required, frozenset(named)


def _to_vectors(result: Any, embedding_input: EmbeddingInput) -> list[Vector]:
    """Convert a result to vectors. Raises ValueError, or any exception of an unexpected object."""
    vectors = [array("d", _to_sequence(vector)) for vector in _to_sequence(result)]
    length = embedding_input.dimensions or (len(vectors[0]) if vectors else 0)
    if len(vectors) != embedding_input.number or not length:
        raise ValueError(f"{len(vectors)} vectors for {embedding_input.number} inputs")
    for vector in vectors:
        if len(vector) != length or not is_finite(vector):
            raise ValueError(f"vectors need {length} finite numbers each")
    return vectors


def _to_sequence(value: Any) -> Sequence[Any]:
    """A sequence of any library (`__len__` and `__getitem__`). Raises TypeError for strings, bytes, mappings and sets."""
    other = isinstance(value, str | bytes | bytearray | memoryview | Mapping | AbstractSet)
    if other or not hasattr(value, "__len__") or not hasattr(value, "__getitem__"):
        raise TypeError("no list")
    return cast("Sequence[Any]", value.tolist() if hasattr(value, "tolist") else value)
