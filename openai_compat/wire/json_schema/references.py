"""Resolves the references of a schema: to places within it, or the schema is refused."""

from __future__ import annotations

from typing import Any, TypeAlias, cast
from urllib.parse import unquote, urldefrag, urljoin

from .keywords import FORMS, HERE, REFERENCES, WITH_SCHEMAS, is_schema, schemas_of

Fields: TypeAlias = dict[str, Any]

MAX_SCHEMAS = 5_000
"""Schemas within one schema, each reference counted as one more."""

MAX_REFERENCE = 4000
"""Characters of a reference, and of what one can name."""


MAX_PLACE = 100
"""Characters of a place that a message tells."""


class InvalidSchema(ValueError):
    """A schema that makes no sense, with a sentence that says why; it quotes little of what was sent."""


class WorkBudget:
    """The bound on the cost of reading schemas."""

    def __init__(self, left: int = MAX_SCHEMAS) -> None:
        self._left = left

    def spend(self, cost: int = 1) -> None:
        """Raise InvalidSchema if that is too much."""
        self._left -= cost
        if self._left < 0:
            raise InvalidSchema(f"it has more than {MAX_SCHEMAS} schemas and references")


class References:
    """The places of a schema, by what they are called, and where each reference leads.

    Schemas are known by their identity: `id` of what was parsed. Raises InvalidSchema; with `strict` also for keywords
    whose values make no sense, and for references that go around in a circle, which no check would come out of.

    Attributes:
        root: the schema.
        bases: by schema, the address that its references are relative to. A name without any meaning here.
        targets: by schema and keyword, the schema that is referred to.
        dynamic: schemas by their address and name that `$dynamicRef` looks for.
        tracking: whether a schema asks what others have said something about.
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
        # After the walk, since a reference may lead to what stands behind it.
        while self._waiting:
            self._resolve(*self._waiting.pop())
        if strict:
            self._refuse_circles()

    def _walk(self, schema: object, base: str, place: str) -> None:
        """Note what is in a schema and below it."""
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
            base = self._named(schema, base)
            self.bases[id(schema)] = base
            self.tracking |= "unevaluatedProperties" in schema or "unevaluatedItems" in schema
            here = self._here[id(schema)] = list[Fields]()
            for keyword in schema.keys() & WITH_SCHEMAS:
                inner = schemas_of(keyword, schema[keyword])
                waiting += [(one, base, _below(place, where)) for where, one in inner]
                if keyword in HERE:
                    here += [one for _, one in inner if isinstance(one, dict)]
            self._waiting += [(schema, keyword, place) for keyword in schema.keys() & REFERENCES]

    def _named(self, schema: Fields, base: str) -> str:
        """Note the names of a schema; the address that it and what is below it are relative to."""
        identity = schema.get("$id")
        if isinstance(identity, str) and identity.startswith("#"):  # as older drafts name a place
            self._anchors[base, identity[1:]] = schema
        elif isinstance(identity, str) and identity:
            base = _joined(base, identity)[0]
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
        # Joining addresses costs by their length.
        self._budget.spend(1 + len(reference) // 200)
        known = self.bases[id(schema)], reference
        if known not in self._found:
            self._found[known] = self._target(*known)
        target = self._found[known]
        if not is_schema(target):
            raise InvalidSchema(f"'{keyword}' at '{place}' leads to nothing in the schema")
        self.targets[id(schema), keyword] = target
        if isinstance(target, dict):
            self._here[id(schema)].append(cast("Fields", target))

    def _target(self, base: str, reference: str) -> Any:
        """The target of a reference, None if it is not in the schema."""
        address, fragment = _joined(base, reference)
        if fragment and not fragment.startswith("/"):
            return self._anchors.get((address, unquote(fragment)))
        # Looked up, never fetched: the address is a stranger's.
        found: Any = self._resources.get(address)
        for step in fragment.split("/")[1:]:
            if isinstance(found, dict) and isinstance(cast("Fields", found).get("$id"), str) and found is not self.root:
                address = self.bases.get(id(cast("Fields", found)), address)
            # In this order (RFC 6901, 4): `~01` is the name `~1`.
            found = _step(found, unquote(step).replace("~1", "/").replace("~0", "~"))
        if isinstance(found, dict):
            self._walk(cast("Fields", found), address, "#" + fragment)  # below a keyword that we do not know
        return cast("Any", found)

    def _refuse_circles(self) -> None:
        """Raise InvalidSchema if a schema is, in the end, about itself and the same value: no check of it would end."""
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


def _joined(base: str, reference: str) -> tuple[str, str]:
    """A reference as an address and a place there."""
    if len(reference) > MAX_REFERENCE:
        raise InvalidSchema(f"a reference has more than {MAX_REFERENCE} characters")
    if reference.startswith("#"):
        return base, reference[1:]
    try:
        address, fragment = urldefrag(urljoin(base, reference))
    except ValueError:
        raise InvalidSchema("a reference is not a valid address") from None
    return address, fragment


def _step(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return cast("Fields", value).get(step)
    # A bound on the digits: reading a million of them takes long.
    if isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < 7:
        items = cast("list[Any]", value)
        return items[int(step)] if int(step) < len(items) else None
    return None


def _below(place: str, where: str) -> str:
    """A place in a schema, for people to read: names may be long, and there may be many below them."""
    if place.endswith("…"):
        return place
    longer = f"{place}/{where[:MAX_PLACE]}"
    return longer if len(longer) <= MAX_PLACE else longer[:MAX_PLACE] + "…"
