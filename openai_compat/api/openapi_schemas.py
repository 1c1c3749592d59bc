"""The schemas of an API in the OpenAPI document, from the types that parse its requests and write its answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json

from ..wire.json import dumps


def schemas_of(
    prefix: str, requests: Iterable[type[BaseModel]], answers: Iterable[Any], more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The schemas by name, with `prefix` before each name, since several APIs have types with the same name.

    A name that begins with the prefix already gets no second one.
    """
    from pydantic import TypeAdapter  # noqa: PLC0415  (importing the library should not take the time this takes)
    from pydantic.json_schema import JsonSchemaMode  # noqa: PLC0415

    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        *[(request.__name__, "validation", TypeAdapter(request)) for request in requests],
        *[(answer.__name__, "serialization", TypeAdapter(answer)) for answer in answers],
    ]
    _, shared = TypeAdapter.json_schemas(inputs, ref_template=f"#/components/schemas/{prefix}{{model}}")
    named = {prefix + name: schema for name, schema in {**shared["$defs"], **(more or {})}.items()}
    found: dict[str, Any] = from_json(dumps(named).replace(f"{prefix}{prefix}".encode(), prefix.encode()))
    return found
