"""Checks a value against a schema: each pair of schema and value once, with a limit on the total."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from .references import References
from .values import canonical

Fields: TypeAlias = dict[str, Any]
Scope: TypeAlias = tuple[str, ...]
"""The base addresses of the schemas entered so far, outermost first; `$dynamicRef` searches them in order."""


class TooManySteps(Exception):
    """The check was aborted: it takes more steps than allowed."""


@dataclass(slots=True, eq=False)
class SchemaVerdict:
    """The outcome of checking a value against a schema.

    Attributes:
        problem: path within the value and reason of the first mismatch; None if the value matches.
        sure: False if the match is uncertain because a pattern, which is never evaluated, could decide otherwise.
        seen: property names and item indexes of the value that the schema has evaluated.
    """

    problem: tuple[tuple[str | int, ...], str] | None = None
    sure: bool = True
    seen: set[str | int] = field(default_factory=set[str | int])

    def fail(self, why: str) -> None:
        """Record a mismatch."""
        self.problem = (), why


class Check:
    """One check of a value, with all its intermediate results."""

    def __init__(self, references: References, rules: Rules, steps: int) -> None:
        self.references = references
        self._rules = rules
        self._left = steps
        self._known: dict[tuple[int, int, Scope], SchemaVerdict] = {}
        self._values: dict[int, frozenset[str]] = {}

    def spend(self, steps: int) -> None:
        """Count `steps` steps. Raises TooManySteps if they exceed the limit."""
        self._left -= steps
        if self._left < 0:
            raise TooManySteps

    def verdict(self, schema: Any, value: Any, scope: Scope) -> SchemaVerdict:
        """Check a value against a schema. The outcome is cached, since schemas may refer to each other repeatedly."""
        self.spend(1)
        # `true` and `false` are schemas too: they match anything and nothing, respectively.
        if isinstance(schema, bool):
            return SchemaVerdict() if schema else SchemaVerdict(((), "nothing may be here"))
        if self.references.dynamic and self.references.bases[id(schema)] not in scope:
            scope = (*scope, self.references.bases[id(schema)])
        # Keyed by identity: both are parts of parsed JSON that outlives the check.
        known = (id(schema), id(value), scope)
        if known not in self._known:
            self._known[known] = self._apply_rules(schema, value, scope)
        return self._known[known]

    def enum_texts(self, wanted: list[Any]) -> frozenset[str]:
        """Return the values of an `enum` as texts, for lookups. Not as numbers: numbers with equal hashes are easy to find."""
        if id(wanted) not in self._values:
            self._values[id(wanted)] = frozenset([canonical(one, self.spend) for one in wanted])
        return self._values[id(wanted)]

    def _apply_rules(self, schema: Fields, value: Any, scope: Scope) -> SchemaVerdict:
        context = RuleContext(self, schema, value, scope, SchemaVerdict())
        for rule in self._rules.rules_for(schema):
            rule(context)
            if context.found.problem is not None:
                break
        return context.found


@dataclass(slots=True, eq=False)
class RuleContext:
    """The schema and the value being checked, with the findings so far."""

    check: Check
    schema: Fields
    value: Any
    scope: Scope
    found: SchemaVerdict

    @property
    def fields(self) -> Fields | None:
        """The value if it is an object, else None."""
        value: object = self.value
        return cast("Fields", value) if isinstance(value, dict) else None

    @property
    def items(self) -> list[Any] | None:
        """The value if it is a list, else None."""
        value: object = self.value
        return cast("list[Any]", value) if isinstance(value, list) else None

    def verdict_on(self, schema: Any) -> SchemaVerdict:
        """Check the same value against another schema."""
        return self.check.verdict(schema, self.value, self.scope)

    def require(self, other: SchemaVerdict) -> None:
        """Require the value to match another schema, given its verdict."""
        self.found.problem = self.found.problem or other.problem
        self.found.sure &= other.sure
        self.mark_seen(other.seen)

    def mark_seen(self, places: Iterable[str | int]) -> None:
        """Mark these parts of the value as evaluated."""
        if self.check.references.tracking:
            more = set(places)
            self.check.spend(len(more))
            self.found.seen |= more

    def require_part(self, schema: Any, place: str | int, value: Any) -> None:
        """Require a part of the value to match a schema."""
        other = self.check.verdict(schema, value, self.scope)
        self.found.sure &= other.sure
        self.found.seen.add(place)
        if other.problem is not None and self.found.problem is None:
            self.found.problem = (place, *other.problem[0]), other.problem[1]


Rule: TypeAlias = Callable[[RuleContext], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of all keywords. Those in `last` handle the parts that no other rule has evaluated."""

    first: Mapping[str, Rule]
    last: Mapping[str, Rule]

    def rules_for(self, schema: Fields) -> Iterable[Rule]:
        """Return the rules for a schema in order, without duplicates for keywords that share a rule."""
        rules = [self.first[keyword] for keyword in schema if keyword in self.first]
        rules += [self.last[keyword] for keyword in self.last if keyword in schema]
        return dict.fromkeys(rules)
