"""The rules of JSON Schema's keywords: the requirements of each on a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from fractions import Fraction
from typing import Any, cast

from .checking import Fields, Rule, RuleContext, Rules, SchemaVerdict
from .keywords import REFERENCES, is_integer, is_number
from .values import canonical, describe


def _type(context: RuleContext) -> None:
    wanted: object = context.schema["type"]
    names = cast("list[str]", wanted if isinstance(wanted, list) else [wanted])
    context.check.spend(len(names))
    if not any([_is_of_type(context.value, name) for name in names]):
        # There are only seven types; a longer list repeats some.
        context.found.fail(f"{describe(context.value)} is not of type {' or '.join(names[:7])}")


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


def _enum(context: RuleContext) -> None:
    if canonical(context.value, context.check.spend) not in context.check.enum_texts(context.schema["enum"]):
        context.found.fail(f"{describe(context.value)} is none of the values of 'enum'")


def _const(context: RuleContext) -> None:
    if canonical(context.schema["const"], context.check.spend) != canonical(context.value, context.check.spend):
        context.found.fail(f"{describe(context.value)} is not {describe(context.schema['const'])}")


def _number_rule(keyword: str, fits: Callable[[Any, Any], bool], why: str) -> Rule:
    def rule(context: RuleContext) -> None:
        if is_number(context.value) and not fits(context.value, context.schema[keyword]):
            context.found.fail(f"{describe(context.value)} is {why} {describe(context.schema[keyword])}")

    return rule


def _to_fraction(number: Any) -> Fraction:
    return Fraction(str(number) if isinstance(number, float) else number)  # via decimal text: 0.1 is exactly a tenth


def _size_rule(keyword: str, kind: type, fits: Callable[[int, Any], bool], why: str) -> Rule:
    def rule(context: RuleContext) -> None:
        if isinstance(context.value, kind) and not fits(len(cast("Sized", context.value)), context.schema[keyword]):
            context.found.fail(f"{describe(context.value)} {why} {describe(context.schema[keyword])}")

    return rule


def _at_most(value: float, most: float) -> bool:
    return value <= most


def _at_least(value: float, least: float) -> bool:
    return value >= least


def _pattern(context: RuleContext) -> None:
    """Handle a pattern: patterns are never compiled, so a match is uncertain."""
    # Python's regular expressions have no time limit: a short untrusted one could block the whole server.
    context.found.sure &= not isinstance(context.value, str)


def _require_names(context: RuleContext, names: Sequence[str]) -> None:
    fields = context.fields
    if fields is None:
        return
    context.check.spend(len(names))
    missing = next((name for name in names if name not in fields), None)
    if missing is not None:
        context.found.fail(f"{describe(missing)} is missing")


def _dependent(context: RuleContext) -> None:
    fields = context.fields
    if fields is None:
        return
    for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
        for name, needed in cast("Fields", context.schema.get(keyword, {})).items():
            context.check.spend(1)
            if name in fields and isinstance(needed, list):
                _require_names(context, cast("list[str]", needed))
            elif name in fields:
                context.require(context.verdict_on(needed))


def _properties(context: RuleContext) -> None:
    """Check the properties of an object, for the three keywords that interact."""
    fields = context.fields
    if fields is None:
        return
    named: Fields = context.schema.get("properties", {})
    others, patterns = context.schema.get("additionalProperties"), context.schema.get("patternProperties")
    context.check.spend(min(len(named), len(fields)) if others is None and not patterns else len(fields))
    # Iterate over the shorter of the two, since either may be long and is untrusted.
    for name in named if len(named) < len(fields) else fields:
        if name in named and name in fields:
            context.require_part(named[name], name, fields[name])
    if patterns and fields:
        context.found.sure = False  # unknown which names the patterns match
        context.mark_seen(fields)
    elif others is not None:
        for name in fields:
            if name not in named:
                _check_other_property(context, others, name)


def _check_other_property(context: RuleContext, schema: Any, name: str) -> None:
    if schema is not False:
        context.require_part(schema, name, context.value[name])
    elif context.found.problem is None:
        context.found.fail(f"{describe(name)} is a property that is not wanted")


def _property_names(context: RuleContext) -> None:
    for name in context.fields or ():
        other = context.check.verdict(context.schema["propertyNames"], name, context.scope)
        context.found.sure &= other.sure
        if other.problem is not None:
            context.found.fail(f"the name {describe(name)} does not fit: {other.problem[1]}")
            return


def _items(context: RuleContext) -> None:
    """Check the first items of a list, then the remaining ones; older drafts use other keywords for these."""
    items = context.items
    if items is None:
        return
    rest = context.schema.get("items")
    first = context.schema.get("prefixItems", ())
    if isinstance(rest, list):
        first, rest = cast("list[Any]", rest), context.schema.get("additionalItems")
    for index, schema in enumerate(first[: len(items)]):
        context.require_part(schema, index, items[index])
    for index in range(len(first), len(items) if rest is not None else 0):
        context.require_part(rest, index, items[index])


def _contains(context: RuleContext) -> None:
    if context.items is None:
        return
    found = [context.check.verdict(context.schema["contains"], item, context.scope) for item in context.items]
    fitting = [index for index, one in enumerate(found) if one.problem is None]
    surely = [index for index in fitting if found[index].sure]
    least, most = context.schema.get("minContains", 1), context.schema.get("maxContains", len(found))
    context.mark_seen(fitting)
    context.found.sure &= len(surely) == len(fitting)
    if len(fitting) < least:
        context.found.fail("too few of its items fit 'contains'")
    elif len(surely) > most:
        context.found.fail("too many of its items fit 'contains'")


def _unique(context: RuleContext) -> None:
    items = context.items
    if (
        context.schema["uniqueItems"]
        and items
        and len({canonical(item, context.check.spend) for item in items}) < len(items)
    ):
        context.found.fail("its items are not all different")


def _all_of(context: RuleContext) -> None:
    for schema in context.schema["allOf"]:
        context.require(context.verdict_on(schema))


def _any_of(context: RuleContext) -> None:
    # Check all even if one matches: the `unevaluated…` keywords depend on everything evaluated.
    found = [context.verdict_on(schema) for schema in context.schema["anyOf"]]
    fitting = [one for one in found if one.problem is None]
    _require_one_match(context, found, fitting)
    context.found.sure &= any([one.sure for one in fitting])


def _one_of(context: RuleContext) -> None:
    found = [context.verdict_on(schema) for schema in context.schema["oneOf"]]
    fitting = [one for one in found if one.problem is None]
    _require_one_match(context, found, fitting)
    # A pattern, which is never evaluated, could distinguish two matching schemas.
    if len([one for one in fitting if one.sure]) > 1:
        context.found.fail(f"{describe(context.value)} fits more than one of the schemas of 'oneOf'")
    context.found.sure &= len(fitting) == 1 and fitting[0].sure


def _require_one_match(context: RuleContext, found: Sequence[SchemaVerdict], fitting: Sequence[SchemaVerdict]) -> None:
    for one in fitting:
        context.mark_seen(one.seen)
    if not fitting:  # report the one that matched furthest
        nearest = max([one.problem for one in found if one.problem is not None], key=lambda problem: len(problem[0]))
        context.found.problem = (
            nearest if nearest[0] else ((), f"{describe(context.value)} fits none of the schemas for it")
        )


def _not(context: RuleContext) -> None:
    other = context.verdict_on(context.schema["not"])
    if other.problem is None and other.sure:
        context.found.fail(f"{describe(context.value)} fits the schema of 'not'")
    context.found.sure &= other.problem is not None


def _if(context: RuleContext) -> None:
    condition = context.verdict_on(context.schema["if"])
    if condition.problem is None:
        context.mark_seen(condition.seen)
    if condition.problem is None and not condition.sure:
        context.found.sure = False
        return
    branch = "else" if condition.problem is not None else "then"
    if branch in context.schema:
        context.require(context.verdict_on(context.schema[branch]))


def _reference_rule(keyword: str) -> Rule:
    def rule(context: RuleContext) -> None:
        known = context.check.references
        target: Any = known.targets[id(context.schema), keyword]
        name = context.schema[keyword].partition("#")[2]
        if keyword == "$dynamicRef" and (known.bases.get(id(target), ""), name) in known.dynamic:
            target = next(
                (known.dynamic[base, name] for base in context.scope if (base, name) in known.dynamic), target
            )
        context.require(context.verdict_on(target))

    return rule


def _unevaluated_properties(context: RuleContext) -> None:
    for name in context.fields or ():
        context.check.spend(1)
        if name not in context.found.seen:
            _check_other_property(context, context.schema["unevaluatedProperties"], name)


def _unevaluated_items(context: RuleContext) -> None:
    for index, value in enumerate(context.items or ()):
        context.check.spend(1)
        if index not in context.found.seen:
            context.require_part(context.schema["unevaluatedItems"], index, value)


_FIRST: dict[str, Rule] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "multipleOf": _number_rule(
        "multipleOf", lambda value, of: _to_fraction(value) % _to_fraction(of) == 0, "no multiple of"
    ),
    "maximum": _number_rule("maximum", _at_most, "more than"),
    "minimum": _number_rule("minimum", _at_least, "less than"),
    "exclusiveMaximum": _number_rule("exclusiveMaximum", lambda value, most: value < most, "not less than"),
    "exclusiveMinimum": _number_rule("exclusiveMinimum", lambda value, least: value > least, "not more than"),
    "maxLength": _size_rule("maxLength", str, _at_most, "is longer than"),
    "minLength": _size_rule("minLength", str, _at_least, "is shorter than"),
    "maxItems": _size_rule("maxItems", list, _at_most, "has more items than"),
    "minItems": _size_rule("minItems", list, _at_least, "has fewer items than"),
    "maxProperties": _size_rule("maxProperties", dict, _at_most, "has more properties than"),
    "minProperties": _size_rule("minProperties", dict, _at_least, "has fewer properties than"),
    "pattern": _pattern,
    "required": lambda context: _require_names(context, context.schema["required"]),
    **dict.fromkeys(["dependentRequired", "dependentSchemas", "dependencies"], _dependent),
    **dict.fromkeys(["properties", "patternProperties", "additionalProperties"], _properties),
    "propertyNames": _property_names,
    **dict.fromkeys(["prefixItems", "items"], _items),
    "contains": _contains,
    "uniqueItems": _unique,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    **{keyword: _reference_rule(keyword) for keyword in REFERENCES},
}

_LAST: dict[str, Rule] = {
    "unevaluatedProperties": _unevaluated_properties,
    "unevaluatedItems": _unevaluated_items,
}

RULES = Rules(_FIRST, _LAST)
