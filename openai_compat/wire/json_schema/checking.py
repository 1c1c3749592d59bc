"""A value checked against a schema: each pair of a schema and a value once, with a bound on all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from .references import References
from .values import canonical

Fields: TypeAlias = dict[str, Any]
Scope: TypeAlias = tuple[str, ...]
"""The addresses of the schemas on the way here: `$dynamicRef` asks them, the first one first."""


class TooManySteps(Exception):
    """A check was given up: it takes more steps than it may."""


@dataclass(slots=True, eq=False)
class SchemaVerdict:
    """The outcome of checking a value against a schema.

    Attributes:
        problem: where in the value it does not fit, from there inwards, and why; None if it fits.
        sure: whether it is known to fit: no pattern stands in between, which nobody looked at.
        seen: names and positions in the value that the schema has said something about.
    """

    problem: tuple[tuple[str | int, ...], str] | None = None
    sure: bool = True
    seen: set[str | int] = field(default_factory=set[str | int])

    def fail(self, why: str) -> None:
        """Note that it does not fit."""
        self.problem = (), why


class Check:
    """One check of a value, and all it has found out."""

    def __init__(self, references: References, rules: Rules, steps: int) -> None:
        self.references = references
        self._rules = rules
        self._left = steps
        self._known: dict[tuple[int, int, Scope], SchemaVerdict] = {}
        self._values: dict[int, frozenset[str]] = {}

    def spend(self, steps: int) -> None:
        """Raise TooManySteps if that was one step too many."""
        self._left -= steps
        if self._left < 0:
            raise TooManySteps

    def outcome(self, schema: Any, value: Any, scope: Scope) -> SchemaVerdict:
        """Check a value against a schema: once, since schemas may name each other again and again."""
        self.spend(1)
        # `true` and `false` are schemas too: anything, and nothing.
        if isinstance(schema, bool):
            return SchemaVerdict() if schema else SchemaVerdict(((), "nothing may be here"))
        if self.references.dynamic and self.references.bases[id(schema)] not in scope:
            scope = (*scope, self.references.bases[id(schema)])
        # By identity: both are parts of parsed JSON that lives as long as the check.
        known = (id(schema), id(value), scope)
        if known not in self._known:
            self._known[known] = self._look(schema, value, scope)
        return self._known[known]

    def values(self, wanted: list[Any]) -> frozenset[str]:
        """The values of an `enum`, to be looked up. Text, since anybody can find numbers with the same hash."""
        if id(wanted) not in self._values:
            self._values[id(wanted)] = frozenset([canonical(one, self.spend) for one in wanted])
        return self._values[id(wanted)]

    def _look(self, schema: Fields, value: Any, scope: Scope) -> SchemaVerdict:
        at = RuleContext(self, schema, value, scope, SchemaVerdict())
        for rule in self._rules.of(schema):
            rule(at)
            if at.found.problem is not None:
                break
        return at.found


@dataclass(slots=True, eq=False)
class RuleContext:
    """A schema and a value that are being looked at, and what was found so far."""

    check: Check
    schema: Fields
    value: Any
    scope: Scope
    found: SchemaVerdict

    @property
    def fields(self) -> Fields | None:
        """The value, if it is an object."""
        value: object = self.value
        return cast("Fields", value) if isinstance(value, dict) else None

    @property
    def items(self) -> list[Any] | None:
        """The value, if it is a list."""
        value: object = self.value
        return cast("list[Any]", value) if isinstance(value, list) else None

    def here(self, schema: Any) -> SchemaVerdict:
        """Check the same value against another schema."""
        return self.check.outcome(schema, self.value, self.scope)

    def take(self, other: SchemaVerdict) -> None:
        """The value has to fit that schema too."""
        self.found.problem = self.found.problem or other.problem
        self.found.sure &= other.sure
        self.see(other.seen)

    def see(self, places: Iterable[str | int]) -> None:
        """Something has been said about these parts of the value."""
        if self.check.references.tracking:
            more = set(places)
            self.check.spend(len(more))
            self.found.seen |= more

    def below(self, schema: Any, place: str | int, value: Any) -> None:
        """A part of the value has to fit a schema."""
        other = self.check.outcome(schema, value, self.scope)
        self.found.sure &= other.sure
        self.found.seen.add(place)
        if other.problem is not None and self.found.problem is None:
            self.found.problem = (place, *other.problem[0]), other.problem[1]


Rule: TypeAlias = Callable[[RuleContext], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of keywords. Those in `last` are about what no other one has said something about."""

    first: Mapping[str, Rule]
    last: Mapping[str, Rule]

    def of(self, schema: Fields) -> Iterable[Rule]:
        """The rules for a schema, in their order; those that several keywords share once."""
        rules = [self.first[keyword] for keyword in schema if keyword in self.first]
        rules += [self.last[keyword] for keyword in self.last if keyword in schema]
        return dict.fromkeys(rules)
