"""What embed functions are given, and what comes of them, whatever library they use."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import TypeAlias

Vector: TypeAlias = "array[float]"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingInput:
    """What is to be embedded: texts, or, from clients that have a tokenizer, lists of token numbers; never both.

    `dimensions` is how long the vectors are to be, None if that is left to the function.
    """

    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    dimensions: int | None = None
    user: str | None = None

    @property
    def number(self) -> int:
        """How many vectors are wanted."""
        return len(self.texts) or len(self.tokens)


def is_finite(vector: Vector) -> bool:
    """Whether all are numbers. Their sum tells, which is faster than looking at each, unless it is itself too large."""
    return math.isfinite(sum(vector)) or all(map(math.isfinite, vector))
