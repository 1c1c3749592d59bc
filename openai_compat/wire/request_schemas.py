"""JSON Schemas in requests: refused before an agent runs if their references lead out of them, or nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InvalidRequest
from .json_schema import InvalidSchema, References, Schema, WorkBudget
from .json_schema.keywords import REFERENCES


def parse_schema(schema: Mapping[str, Any], param: str) -> Schema:
    """A schema that an answer is to fit. Raises InvalidRequest (`invalid_json_schema`)."""
    try:
        return Schema(schema)
    except InvalidSchema as error:
        raise invalid_schema(str(error), param) from None


def check_parameters(schemas: Iterable[tuple[str, Mapping[str, Any] | None]]) -> None:
    """Check what tools take, each with the place where it was sent. Raises InvalidRequest (`invalid_json_schema`).

    Only the references: what else a schema may say is for the agent and its model to know.
    """
    budget: WorkBudget | None = None
    for param, schema in schemas:
        if schema is None or not _may_refer(schema):
            continue
        budget = budget or WorkBudget()
        try:
            References(dict(schema), budget, strict=False)
        except InvalidSchema as error:
            raise invalid_schema(str(error), param) from None


def _may_refer(schema: object) -> bool:
    """True if there may be a reference: most schemas have none, and this is fast."""
    waiting: list[Any] = [schema]
    while waiting:
        item = waiting.pop()
        if item.__class__ is dict:
            if not item.keys().isdisjoint(REFERENCES):
                return True
            waiting.extend(item.values())
        elif item.__class__ is list:
            waiting.extend(item)
    return False


def invalid_schema(why: str, param: str) -> InvalidRequest:
    """The error for a schema."""
    return InvalidRequest(f"The JSON Schema cannot be used: {why}.", param=param, code="invalid_json_schema")
