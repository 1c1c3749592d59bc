"""JSON Schemas of answers in requests: refused before an agent runs if they make no sense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequest
from .json_schema import InvalidSchema, Schema


def parse_schema(schema: Mapping[str, Any], param: str) -> Schema:
    """A schema that an answer is to fit. Raises InvalidRequest (`invalid_json_schema`)."""
    try:
        return Schema(schema)
    except InvalidSchema as error:
        raise invalid_schema(str(error), param) from None


def invalid_schema(why: str, param: str) -> InvalidRequest:
    """The error for a schema."""
    return InvalidRequest(f"The JSON Schema cannot be used: {why}.", param=param, code="invalid_json_schema")
