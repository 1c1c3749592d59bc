"""Resolves the references of a schema to places within it; a schema with any other reference is rejected."""

from __future__ import annotations

from typing import Any, TypeAlias, cast
from urllib.parse import unquote, urldefrag, urljoin

from .keywords import FORMS, REFERENCES, SAME_VALUE_KEYWORDS, SCHEMA_KEYWORDS, is_schema, schemas_of

Fields: TypeAlias = dict[str, Any]

MAX_SCHEMAS = 5_000
"""Maximum number of schemas within one schema; each reference counts as one more."""

MAX_REFERENCE = 4000
"""Maximum length in characters of a reference, and of the address that results from joining one."""


MAX_PLACE = 100
"""Maximum length in characters of a place in an error message."""


class InvalidSchema(ValueError):
    """An invalid schema. The message says why, and quotes little of the schema."""


class WorkBudget:
    """The limit on the cost of reading schemas."""

    def __init__(self, left: int = MAX_SCHEMAS) -> None:
        self._left = left

    def spend(self, cost: int = 1) -> None:
        """Spend `cost`. Raises InvalidSchema if the budget is exceeded."""
        self._left -= cost
        if self._left < 0:
            raise InvalidSchema(f"it has more than {MAX_SCHEMAS} schemas and references")


class References:
    """The named places of a schema, and the target of each reference.

    Schemas are identified by `id` of the parsed object. Raises InvalidSchema; with `strict` also for keywords with
    malformed values, and for circular references, which would make a check endless.

    Attributes:
        root: the schema.
        bases: maps each schema to the base address of its references. Addresses are only names here.
        targets: maps a schema and a keyword to the schema that is referred to.
        dynamic: maps an address and a `$dynamicAnchor` name to its schema, for `$dynamicRef`.
        tracking: True if a schema uses an `unevaluated…` keyword, so that evaluated parts must be tracked.
    """

    def __init__(self, root: Fields, budget: WorkBudget, *, strict: bool) -> None:
        self.root = root
        self.bases: dict[int, str] = {}
        self.targets: dict[tuple[int, str], Any] = {}
        self.dynamic: dict[tuple[str, str], Fields] = {}
        self.tracking = False
        self._strict = strict
        self._budget = budget
        self._resources: dict[str, Any] = {"": root}
        self._anchors: dict[tuple[str, str], Fields] = {}
        self._waiting: list[tuple[Fields, str, str]] = []
        self._found: dict[tuple[str, str], Any] = {}
        self._here: dict[int, list[Fields]] = {}
        self._walk(root, "", "#")
        # Resolved after the walk, since a reference may point forward.
        while self._waiting:
            self._resolve(*self._waiting.pop())
        if strict:
            self._refuse_circles()

    def _walk(self, schema: object, base: str, place: str) -> None:
        """Register a schema and all schemas below it."""
        waiting = [(schema, base, place)]
        while waiting:
            schema, base, place = waiting.pop()
            if isinstance(schema, bool) or id(schema) in self.bases:
                continue
            if not isinstance(schema, dict):
                if self._strict:
                    raise InvalidSchema(f"at '{place}' there should be a schema")
                continue
            schema = cast("Fields", schema)
            self._budget.spend()
            if self._strict:
                _check_forms(schema, place)
            base = self._register_names(schema, base)
            self.bases[id(schema)] = base
            self.tracking |= "unevaluatedProperties" in schema or "unevaluatedItems" in schema
            here = self._here[id(schema)] = list[Fields]()
            for keyword in schema.keys() & SCHEMA_KEYWORDS:
                inner = schemas_of(keyword, schema[keyword])
                waiting += [(one, base, _extend_place(place, where)) for where, one in inner]
                if keyword in SAME_VALUE_KEYWORDS:
                    here += [one for _, one in inner if isinstance(one, dict)]
            self._waiting += [(schema, keyword, place) for keyword in schema.keys() & REFERENCES]

    def _register_names(self, schema: Fields, base: str) -> str:
        """Register the names of a schema; return the base address for the schema and everything below it."""
        identity = schema.get("$id")
        if isinstance(identity, str) and identity.startswith("#"):  # how older drafts define an anchor
            self._anchors[base, identity[1:]] = schema
        elif isinstance(identity, str) and identity:
            base = _resolve_address(base, identity)[0]
            self._resources.setdefault(base, schema)
        for keyword in ("$anchor", "$dynamicAnchor"):
            name = schema.get(keyword)
            if isinstance(name, str):
                self._anchors.setdefault((base, name), schema)
                if keyword == "$dynamicAnchor":
                    self.dynamic.setdefault((base, name), schema)
        return base

    def _resolve(self, schema: Fields, keyword: str, place: str) -> None:
        reference = schema[keyword]
        if not isinstance(reference, str):
            raise InvalidSchema(f"'{keyword}' at '{place}' should be text")
        # The cost of joining addresses grows with their length.
        self._budget.spend(1 + len(reference) // 200)
        known = self.bases[id(schema)], reference
        if known not in self._found:
            self._found[known] = self._find_target(*known)
        target = self._found[known]
        if not is_schema(target):
            raise InvalidSchema(f"'{keyword}' at '{place}' leads to nothing in the schema")
        self.targets[id(schema), keyword] = target
        if isinstance(target, dict):
            self._here[id(schema)].append(cast("Fields", target))

    def _find_target(self, base: str, reference: str) -> Any:
        """Return the target of a reference, or None if it is not in the schema."""
        address, fragment = _resolve_address(base, reference)
        if fragment and not fragment.startswith("/"):
            return self._anchors.get((address, unquote(fragment)))
        # Looked up, never fetched: the address is untrusted.
        found: Any = self._resources.get(address)
        for step in fragment.split("/")[1:]:
            if isinstance(found, dict) and isinstance(cast("Fields", found).get("$id"), str) and found is not self.root:
                address = self.bases.get(id(cast("Fields", found)), address)
            # The order matters (RFC 6901, section 4): `~01` means the name `~1`.
            found = _child(found, unquote(step).replace("~1", "/").replace("~0", "~"))
        if isinstance(found, dict):
            self._walk(cast("Fields", found), address, "#" + fragment)  # below an unknown keyword
        return cast("Any", found)

    def _refuse_circles(self) -> None:
        """Raise InvalidSchema if a schema refers to itself for the same value: checking it would never end."""
        done: set[int] = set()
        for start in self._here:
            path = {start: iter(self._here[start])} if start not in done else {}
            while path:
                current = next(reversed(path))
                step = next(path[current], None)
                if step is None:
                    path.popitem()
                    done.add(current)
                elif id(step) in path:
                    raise InvalidSchema("it refers to itself without end")
                elif id(step) not in done:
                    path[id(step)] = iter(self._here.get(id(step), ()))


def _check_forms(schema: Fields, place: str) -> None:
    for keyword in schema.keys() & FORMS.keys():
        fits, wanted = FORMS[keyword]
        if not fits(schema[keyword]):
            raise InvalidSchema(f"'{keyword}' at '{place}' should be {wanted}")


def _resolve_address(base: str, reference: str) -> tuple[str, str]:
    """Resolve a reference to an address and a fragment."""
    if len(reference) > MAX_REFERENCE:
        raise InvalidSchema(f"a reference has more than {MAX_REFERENCE} characters")
    if reference.startswith("#"):
        return base, reference[1:]
    try:
        address, fragment = urldefrag(urljoin(base, reference))
    except ValueError:
        raise InvalidSchema("a reference is not a valid address") from None
    return address, fragment


def _child(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return cast("Fields", value).get(step)
    # Limits the digits: parsing a million of them takes long.
    if isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 7:
        items = cast("list[Any]", value)
        return items[int(step)] if int(step) < len(items) else None
    return None


def _extend_place(place: str, where: str) -> str:
    """Return a human-readable place in a schema, shortened, since names may be long and deeply nested."""
    if place.endswith("…"):
        return place
    longer = f"{place}/{where[:MAX_PLACE]}"
    return longer if len(longer) <= MAX_PLACE else longer[:MAX_PLACE] + "…"
