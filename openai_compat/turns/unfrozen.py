"""What hooks are told of each run, while it is put together: the same attributes as the frozen classes, not frozen yet.

A frozen dataclass sets each attribute by a call of `object.__setattr__`, which makes it take four times as long to make. Python
lets an object change to a class that has the same attributes: `made.__class__ = TurnInfo`.
"""

from __future__ import annotations

from ..policies.hooks import TurnInfo, TurnOutcome


class UnfrozenTurnInfo:
    """The facts of a run, until all are there and it becomes a `TurnInfo`."""

    __slots__ = TurnInfo.__slots__


class UnfrozenTurnOutcome:
    """The outcome of a run, until it is whole and becomes a `TurnOutcome`."""

    __slots__ = TurnOutcome.__slots__
