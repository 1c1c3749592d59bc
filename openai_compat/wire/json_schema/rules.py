"""The rules of JSON Schema's keywords: the requirements of each on a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from fractions import Fraction
from typing import Any, cast

from .checking import Fields, Rule, RuleContext, Rules, SchemaVerdict
from .keywords import REFERENCES, is_integer, is_number
from .values import canonical, shown


def _type(at: RuleContext) -> None:
    wanted: object = at.schema["type"]
    names = cast("list[str]", wanted if isinstance(wanted, list) else [wanted])
    at.check.spend(len(names))
    if not any([_is_of_type(at.value, name) for name in names]):
        # There are only seven types; a longer list repeats some.
        at.found.fail(f"{shown(at.value)} is not of type {' or '.join(names[:7])}")


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


def _enum(at: RuleContext) -> None:
    if canonical(at.value, at.check.spend) not in at.check.values(at.schema["enum"]):
        at.found.fail(f"{shown(at.value)} is none of the values of 'enum'")


def _const(at: RuleContext) -> None:
    if canonical(at.schema["const"], at.check.spend) != canonical(at.value, at.check.spend):
        at.found.fail(f"{shown(at.value)} is not {shown(at.schema['const'])}")


def _number(keyword: str, fits: Callable[[Any, Any], bool], why: str) -> Rule:
    def rule(at: RuleContext) -> None:
        if is_number(at.value) and not fits(at.value, at.schema[keyword]):
            at.found.fail(f"{shown(at.value)} is {why} {shown(at.schema[keyword])}")

    return rule


def _exact(number: Any) -> Fraction:
    return Fraction(str(number) if isinstance(number, float) else number)  # via decimal text: 0.1 is exactly a tenth


def _size(keyword: str, kind: type, fits: Callable[[int, Any], bool], why: str) -> Rule:
    def rule(at: RuleContext) -> None:
        if isinstance(at.value, kind) and not fits(len(cast("Sized", at.value)), at.schema[keyword]):
            at.found.fail(f"{shown(at.value)} {why} {shown(at.schema[keyword])}")

    return rule


def _at_most(value: float, most: float) -> bool:
    return value <= most


def _at_least(value: float, least: float) -> bool:
    return value >= least


def _unlooked_at(at: RuleContext) -> None:
    """Handle a pattern: patterns are never compiled, so a match is uncertain."""
    # Python's regular expressions have no time limit: a short untrusted one could block the whole server.
    at.found.sure &= not isinstance(at.value, str)


def _need(at: RuleContext, names: Sequence[str]) -> None:
    fields = at.fields
    if fields is None:
        return
    at.check.spend(len(names))
    missing = next((name for name in names if name not in fields), None)
    if missing is not None:
        at.found.fail(f"{shown(missing)} is missing")


def _dependent(at: RuleContext) -> None:
    fields = at.fields
    if fields is None:
        return
    for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
        for name, needed in cast("Fields", at.schema.get(keyword, {})).items():
            at.check.spend(1)
            if name in fields and isinstance(needed, list):
                _need(at, cast("list[str]", needed))
            elif name in fields:
                at.take(at.here(needed))


def _properties(at: RuleContext) -> None:
    """Check the properties of an object, for the three keywords that interact."""
    fields = at.fields
    if fields is None:
        return
    named: Fields = at.schema.get("properties", {})
    others, patterns = at.schema.get("additionalProperties"), at.schema.get("patternProperties")
    at.check.spend(min(len(named), len(fields)) if others is None and not patterns else len(fields))
    # Iterate over the shorter of the two, since either may be long and is untrusted.
    for name in named if len(named) < len(fields) else fields:
        if name in named and name in fields:
            at.below(named[name], name, fields[name])
    if patterns and fields:
        at.found.sure = False  # unknown which names the patterns match
        at.see(fields)
    elif others is not None:
        for name in fields:
            if name not in named:
                _other(at, others, name)


def _other(at: RuleContext, schema: Any, name: str) -> None:
    if schema is not False:
        at.below(schema, name, at.value[name])
    elif at.found.problem is None:
        at.found.fail(f"{shown(name)} is a property that is not wanted")


def _names(at: RuleContext) -> None:
    for name in at.fields or ():
        other = at.check.outcome(at.schema["propertyNames"], name, at.scope)
        at.found.sure &= other.sure
        if other.problem is not None:
            at.found.fail(f"the name {shown(name)} does not fit: {other.problem[1]}")
            return


def _items(at: RuleContext) -> None:
    """Check the first items of a list, then the remaining ones; older drafts use other keywords for these."""
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


def _contains(at: RuleContext) -> None:
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


def _unique(at: RuleContext) -> None:
    items = at.items
    if at.schema["uniqueItems"] and items and len({canonical(item, at.check.spend) for item in items}) < len(items):
        at.found.fail("its items are not all different")


def _all_of(at: RuleContext) -> None:
    for schema in at.schema["allOf"]:
        at.take(at.here(schema))


def _any_of(at: RuleContext) -> None:
    # Check all even if one matches: the `unevaluated…` keywords depend on everything evaluated.
    found = [at.here(schema) for schema in at.schema["anyOf"]]
    fitting = [one for one in found if one.problem is None]
    _one_has_to_fit(at, found, fitting)
    at.found.sure &= any([one.sure for one in fitting])


def _one_of(at: RuleContext) -> None:
    found = [at.here(schema) for schema in at.schema["oneOf"]]
    fitting = [one for one in found if one.problem is None]
    _one_has_to_fit(at, found, fitting)
    # A pattern, which is never evaluated, could distinguish two matching schemas.
    if len([one for one in fitting if one.sure]) > 1:
        at.found.fail(f"{shown(at.value)} fits more than one of the schemas of 'oneOf'")
    at.found.sure &= len(fitting) == 1 and fitting[0].sure


def _one_has_to_fit(at: RuleContext, found: Sequence[SchemaVerdict], fitting: Sequence[SchemaVerdict]) -> None:
    for one in fitting:
        at.see(one.seen)
    if not fitting:  # report the one that matched furthest
        nearest = max([one.problem for one in found if one.problem is not None], key=lambda problem: len(problem[0]))
        at.found.problem = nearest if nearest[0] else ((), f"{shown(at.value)} fits none of the schemas for it")


def _not(at: RuleContext) -> None:
    other = at.here(at.schema["not"])
    if other.problem is None and other.sure:
        at.found.fail(f"{shown(at.value)} fits the schema of 'not'")
    at.found.sure &= other.problem is not None


def _if(at: RuleContext) -> None:
    condition = at.here(at.schema["if"])
    if condition.problem is None:
        at.see(condition.seen)
    if condition.problem is None and not condition.sure:
        at.found.sure = False
        return
    branch = "else" if condition.problem is not None else "then"
    if branch in at.schema:
        at.take(at.here(at.schema[branch]))


def _reference(keyword: str) -> Rule:
    def rule(at: RuleContext) -> None:
        known = at.check.references
        target: Any = known.targets[id(at.schema), keyword]
        name = at.schema[keyword].partition("#")[2]
        if keyword == "$dynamicRef" and (known.bases.get(id(target), ""), name) in known.dynamic:
            target = next((known.dynamic[base, name] for base in at.scope if (base, name) in known.dynamic), target)
        at.take(at.here(target))

    return rule


def _unevaluated_properties(at: RuleContext) -> None:
    for name in at.fields or ():
        at.check.spend(1)
        if name not in at.found.seen:
            _other(at, at.schema["unevaluatedProperties"], name)


def _unevaluated_items(at: RuleContext) -> None:
    for index, value in enumerate(at.items or ()):
        at.check.spend(1)
        if index not in at.found.seen:
            at.below(at.schema["unevaluatedItems"], index, value)


_FIRST: dict[str, Rule] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "multipleOf": _number("multipleOf", lambda value, of: _exact(value) % _exact(of) == 0, "no multiple of"),
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
    "required": lambda at: _need(at, at.schema["required"]),
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

_LAST: dict[str, Rule] = {
    "unevaluatedProperties": _unevaluated_properties,
    "unevaluatedItems": _unevaluated_items,
}

RULES = Rules(_FIRST, _LAST)
