"""A value checked against a schema: each pair of a schema and a value once, with a bound on all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias, cast

from pydantic_core import to_json

from .keywords import REFERENCES, is_integer, is_number
from .references import Budget, References

Fields: TypeAlias = dict[str, Any]
Scope: TypeAlias = tuple[str, ...]
"""The addresses of the schemas on the way here: `$dynamicRef` asks them, the first one first."""

MAX_SHOWN = 60


class TooManySteps(Exception):
    """A check was given up: it takes more steps than it may."""


@dataclass(slots=True, eq=False)
class SchemaVerdict:
    """What a schema says about a value.

    Attributes:
        problem: where in the value it does not fit, from there inwards, and why; None if it fits.
        sure: whether it is known to fit: no pattern stands in between, which nobody looked at.
        seen: names and positions in the value that the schema has said something about.
    """

    problem: tuple[tuple[str | int, ...], str] | None = None
    sure: bool = True
    seen: set[str | int] = field(default_factory=set[str | int])

    def fail(self, why: str) -> None:
        """It does not fit."""
        self.problem = (), why


class Schema:
    """A schema that values can be checked against. Raises InvalidSchema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = dict(schema)
        self._references = References(self._root, Budget(), strict=True)

    def problem(self, value: Any, steps: int) -> str | None:
        """What is wrong with a value, None if nothing is. Raises TooManySteps."""
        check = _Check(self._references, steps)
        try:
            found = check.outcome(self._root, value, ("",)).problem
        except RecursionError:
            raise TooManySteps from None
        return None if found is None else f"At {_path(found[0])}: {found[1]}"[:500]


class _Check:
    """One check of a value, and all it has found out."""

    def __init__(self, references: References, steps: int) -> None:
        self.references = references
        self._left = steps
        self._known: dict[tuple[int, int, Scope], SchemaVerdict] = {}
        self._values: dict[int, frozenset[str]] = {}

    def spend(self, steps: int) -> None:
        """Raise TooManySteps if that was one step too many."""
        self._left -= steps
        if self._left < 0:
            raise TooManySteps

    def outcome(self, schema: Any, value: Any, scope: Scope) -> SchemaVerdict:
        """What a schema says about a value: looked at once, since schemas may name each other again and again."""
        self.spend(1)
        if isinstance(schema, bool):
            return SchemaVerdict() if schema else SchemaVerdict(((), "nothing may be here"))
        if self.references.dynamic and self.references.bases[id(schema)] not in scope:
            scope = (*scope, self.references.bases[id(schema)])
        known = (id(schema), id(value), scope)
        if known not in self._known:
            self._known[known] = self._look(schema, value, scope)
        return self._known[known]

    def values(self, wanted: list[Any]) -> frozenset[str]:
        """The values of an `enum`, to be looked up. Text, since anybody can find numbers with the same hash."""
        if id(wanted) not in self._values:
            self._values[id(wanted)] = frozenset([_canonical(one, self) for one in wanted])
        return self._values[id(wanted)]

    def _look(self, schema: Fields, value: Any, scope: Scope) -> SchemaVerdict:
        at = _At(self, schema, value, scope, SchemaVerdict())
        rules = [RULES[keyword] for keyword in schema if keyword in RULES]
        rules += [LAST[keyword] for keyword in LAST if keyword in schema]
        for rule in dict.fromkeys(rules):
            rule(at)
            if at.found.problem is not None:
                break
        return at.found


@dataclass(slots=True, eq=False)
class _At:
    """A schema and a value that are being looked at, and what was found so far."""

    check: _Check
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
        """What another schema says about the same value."""
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


def _type(at: _At) -> None:
    wanted: object = at.schema["type"]
    names = cast("list[str]", wanted if isinstance(wanted, list) else [wanted])
    at.check.spend(len(names))
    if not any([_is_of_type(at.value, name) for name in names]):
        at.found.fail(f"{_shown(at.value)} is not of type {' or '.join(names[:7])}")


def _is_of_type(value: Any, name: str) -> bool:
    match name:
        case "array":
            return isinstance(value, list)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return is_integer(value)
        case "null":
            return value is None
        case "number":
            return is_number(value)
        case "object":
            return isinstance(value, dict)
        case _:
            return isinstance(value, str)


def _enum(at: _At) -> None:
    if _canonical(at.value, at.check) not in at.check.values(at.schema["enum"]):
        at.found.fail(f"{_shown(at.value)} is none of the values of 'enum'")


def _const(at: _At) -> None:
    if _canonical(at.schema["const"], at.check) != _canonical(at.value, at.check):
        at.found.fail(f"{_shown(at.value)} is not {_shown(at.schema['const'])}")


def _canonical(value: Any, check: _Check) -> str:
    """Text that is the same for what JSON holds to be the same: 1 is 1.0, but not true; names have no order."""
    check.spend(1)
    if isinstance(value, list):
        return f"[{','.join([_canonical(item, check) for item in cast('list[Any]', value)])}]"
    if isinstance(value, dict):
        fields = cast("Fields", value).items()
        return f"{{{','.join(sorted([f'{_text(name)}:{_canonical(item, check)}' for name, item in fields]))}}}"
    if isinstance(value, str):
        check.spend(len(value) // 100)
        return _text(value)
    return str(int(value)) if is_integer(value) else str(value)


def _text(value: str) -> str:
    return to_json(value).decode()


def _number(keyword: str, fits: Callable[[Any, Any], bool], why: str) -> Callable[[_At], None]:
    def rule(at: _At) -> None:
        if is_number(at.value) and not fits(at.value, at.schema[keyword]):
            at.found.fail(f"{_shown(at.value)} is {why} {_shown(at.schema[keyword])}")

    return rule


def _is_multiple(value: Any, of: Any) -> bool:
    return _exact(value) % _exact(of) == 0


def _exact(number: Any) -> Fraction:
    return Fraction(str(number) if isinstance(number, float) else number)  # 0.1 is a tenth, as it is written


def _size(keyword: str, kind: type, fits: Callable[[int, Any], bool], why: str) -> Callable[[_At], None]:
    def rule(at: _At) -> None:
        if isinstance(at.value, kind) and not fits(len(cast("Sized", at.value)), at.schema[keyword]):
            at.found.fail(f"{_shown(at.value)} {why} {_shown(at.schema[keyword])}")

    return rule


def _at_most(value: float, most: float) -> bool:
    return value <= most


def _at_least(value: float, least: float) -> bool:
    return value >= least


def _unlooked_at(at: _At) -> None:
    """A pattern: it is not compiled, so nobody knows."""
    at.found.sure &= not isinstance(at.value, str)


def _required(at: _At) -> None:
    if at.fields is not None:
        _need(at, at.fields, at.schema["required"])


def _need(at: _At, fields: Fields, names: Sequence[str]) -> None:
    at.check.spend(len(names))
    missing = next((name for name in names if name not in fields), None)
    if missing is not None:
        at.found.fail(f"{_shown(missing)} is missing")


def _dependent(at: _At) -> None:
    fields = at.fields
    if fields is None:
        return
    for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
        for name, needed in cast("Fields", at.schema.get(keyword, {})).items():
            at.check.spend(1)
            if name in fields and isinstance(needed, list):
                _need(at, fields, cast("list[str]", needed))
            elif name in fields:
                at.take(at.here(needed))


def _properties(at: _At) -> None:
    """The three keywords that share an object's properties among them."""
    fields = at.fields
    if fields is None:
        return
    named: Fields = at.schema.get("properties", {})
    others, patterns = at.schema.get("additionalProperties"), at.schema.get("patternProperties")
    at.check.spend(min(len(named), len(fields)) if others is None and not patterns else len(fields))
    for name in named if len(named) < len(fields) else fields:
        if name in named and name in fields:
            at.below(named[name], name, fields[name])
    if patterns and fields:
        at.found.sure = False  # which of them a pattern fits, nobody knows
        at.see(fields)
    elif others is not None:
        for name in fields:
            if name not in named:
                _other(at, others, name)


def _other(at: _At, schema: Any, name: str) -> None:
    if schema is not False:
        at.below(schema, name, at.value[name])
    elif at.found.problem is None:
        at.found.fail(f"{_shown(name)} is a property that is not wanted")


def _names(at: _At) -> None:
    for name in at.fields or ():
        other = at.check.outcome(at.schema["propertyNames"], name, at.scope)
        at.found.sure &= other.sure
        if other.problem is not None:
            at.found.fail(f"the name {_shown(name)} does not fit: {other.problem[1]}")
            return


def _items(at: _At) -> None:
    """A list's first items, and all others; older drafts have them in other keywords."""
    items = at.items
    if items is None:
        return
    rest = at.schema.get("items")
    first = at.schema.get("prefixItems", ())
    if isinstance(rest, list):
        first, rest = cast("list[Any]", rest), at.schema.get("additionalItems")
    for index, schema in enumerate(first[: len(items)]):
        at.below(schema, index, items[index])
    for index in range(len(first), len(items) if rest is not None else 0):
        at.below(rest, index, items[index])


def _contains(at: _At) -> None:
    if at.items is None:
        return
    found = [at.check.outcome(at.schema["contains"], item, at.scope) for item in at.items]
    fitting = [index for index, one in enumerate(found) if one.problem is None]
    surely = [index for index in fitting if found[index].sure]
    least, most = at.schema.get("minContains", 1), at.schema.get("maxContains", len(found))
    at.see(fitting)
    at.found.sure &= len(surely) == len(fitting)
    if len(fitting) < least:
        at.found.fail("too few of its items fit 'contains'")
    elif len(surely) > most:
        at.found.fail("too many of its items fit 'contains'")


def _unique(at: _At) -> None:
    items = at.items
    if at.schema["uniqueItems"] and items and len({_canonical(item, at.check) for item in items}) < len(items):
        at.found.fail("its items are not all different")


def _all_of(at: _At) -> None:
    for schema in at.schema["allOf"]:
        at.take(at.here(schema))


def _any_of(at: _At) -> None:
    found = [at.here(schema) for schema in at.schema["anyOf"]]
    fitting = [one for one in found if one.problem is None]
    _one_has_to_fit(at, found, fitting)
    at.found.sure &= any([one.sure for one in fitting])


def _one_of(at: _At) -> None:
    found = [at.here(schema) for schema in at.schema["oneOf"]]
    fitting = [one for one in found if one.problem is None]
    _one_has_to_fit(at, found, fitting)
    if len([one for one in fitting if one.sure]) > 1:
        at.found.fail(f"{_shown(at.value)} fits more than one of the schemas of 'oneOf'")
    at.found.sure &= len(fitting) == 1 and fitting[0].sure


def _one_has_to_fit(at: _At, found: Sequence[SchemaVerdict], fitting: Sequence[SchemaVerdict]) -> None:
    for one in fitting:
        at.see(one.seen)
    if not fitting:  # tell of the one that got furthest
        nearest = max([one.problem for one in found if one.problem is not None], key=lambda problem: len(problem[0]))
        at.found.problem = nearest if nearest[0] else ((), f"{_shown(at.value)} fits none of the schemas for it")


def _not(at: _At) -> None:
    other = at.here(at.schema["not"])
    if other.problem is None and other.sure:
        at.found.fail(f"{_shown(at.value)} fits the schema of 'not'")
    at.found.sure &= other.problem is not None


def _if(at: _At) -> None:
    condition = at.here(at.schema["if"])
    if condition.problem is None:
        at.see(condition.seen)
    if condition.problem is None and not condition.sure:
        at.found.sure = False
        return
    branch = "else" if condition.problem is not None else "then"
    if branch in at.schema:
        at.take(at.here(at.schema[branch]))


def _reference(keyword: str) -> Callable[[_At], None]:
    def rule(at: _At) -> None:
        known = at.check.references
        target: Any = known.targets[id(at.schema), keyword]
        name = at.schema[keyword].partition("#")[2]
        if keyword == "$dynamicRef" and (known.bases.get(id(target), ""), name) in known.dynamic:
            target = next((known.dynamic[base, name] for base in at.scope if (base, name) in known.dynamic), target)
        at.take(at.here(target))

    return rule


def _unevaluated_properties(at: _At) -> None:
    for name in at.fields or ():
        at.check.spend(1)
        if name not in at.found.seen:
            _other(at, at.schema["unevaluatedProperties"], name)


def _unevaluated_items(at: _At) -> None:
    for index, value in enumerate(at.items or ()):
        at.check.spend(1)
        if index not in at.found.seen:
            at.below(at.schema["unevaluatedItems"], index, value)


RULES: Mapping[str, Callable[[_At], None]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "multipleOf": _number("multipleOf", _is_multiple, "no multiple of"),
    "maximum": _number("maximum", _at_most, "more than"),
    "minimum": _number("minimum", _at_least, "less than"),
    "exclusiveMaximum": _number("exclusiveMaximum", lambda value, most: value < most, "not less than"),
    "exclusiveMinimum": _number("exclusiveMinimum", lambda value, least: value > least, "not more than"),
    "maxLength": _size("maxLength", str, _at_most, "is longer than"),
    "minLength": _size("minLength", str, _at_least, "is shorter than"),
    "maxItems": _size("maxItems", list, _at_most, "has more items than"),
    "minItems": _size("minItems", list, _at_least, "has fewer items than"),
    "maxProperties": _size("maxProperties", dict, _at_most, "has more properties than"),
    "minProperties": _size("minProperties", dict, _at_least, "has fewer properties than"),
    "pattern": _unlooked_at,
    "required": _required,
    **dict.fromkeys(["dependentRequired", "dependentSchemas", "dependencies"], _dependent),
    **dict.fromkeys(["properties", "patternProperties", "additionalProperties"], _properties),
    "propertyNames": _names,
    **dict.fromkeys(["prefixItems", "items"], _items),
    "contains": _contains,
    "uniqueItems": _unique,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    **{keyword: _reference(keyword) for keyword in REFERENCES},
}

LAST: Mapping[str, Callable[[_At], None]] = {
    "unevaluatedProperties": _unevaluated_properties,
    "unevaluatedItems": _unevaluated_items,
}
"""Rules about what no other one has said something about."""


def _shown(value: Any) -> str:
    """A value for people to read, in a few words."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = _text(value[:MAX_SHOWN]) if isinstance(value, str) else to_json(value).decode()
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def _path(steps: Sequence[str | int]) -> str:
    """A place in a value, as JSONPath has it."""
    path = "$"
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if step.isidentifier() else f"[{_text(step[:MAX_SHOWN])}]"
    return path
