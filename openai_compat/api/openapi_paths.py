"""The paths of the OpenAPI document, from the table of routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ..wire.files_types import EXPIRY, PURPOSES
from .routing import Operation, Route

REF = "#/components/schemas/{model}"

KEYS: Sequence[Mapping[str, Any]] = ({"bearer": []}, {"apiKey": []})
COOKIE: Mapping[str, Any] = {"cookie": []}
"""The ways to bring the key: any of them will do."""

NAME: Mapping[str, Any] = {"type": "string", "minLength": 1}

Content = Mapping[str, Any]
"""Schemas by media type."""

FORM: Final[Content] = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {
                "file": {"type": "string", "format": "binary", "minLength": 1},
                "purpose": {"enum": list(PURPOSES)},
                "expires_after[anchor]": {"const": "created_at"},
                "expires_after[seconds]": {"type": "integer", "minimum": EXPIRY[0], "maximum": EXPIRY[-1]},
            },
            "required": ["file", "purpose"],
            "dependentRequired": {
                "expires_after[anchor]": ["expires_after[seconds]"],
                "expires_after[seconds]": ["expires_after[anchor]"],
            },
        }
    }
}


def json(name: str, prefix: str = "") -> Content:
    """JSON of a named schema."""
    return {"application/json": {"schema": {"$ref": REF.format(model=prefix + name)}}}


def asked(whole: str | None, event: str, prefix: str = "") -> Content:
    """JSON of one schema or, streamed, events whose data is JSON of another. Some tools look at the event itself."""
    plain: Content = {} if whole is None else json(whole, prefix)
    schemas = [{"$ref": REF.format(model=name)} for name in (prefix + event, "ServerSentEvent")]
    return {**plain, "text/event-stream": {"schema": {"anyOf": schemas}}}


def paths(routes: Iterable[Route]) -> dict[str, Any]:
    """All routes that are to be described, with their operations."""
    return {
        route.shown_path: {method.lower(): _described(route, found) for method, found in route.operations.items()}
        for route in routes
        if route.described and route.operations
    }


def _described(route: Route, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.id, "summary": operation.summary}
    if route.open:
        described["security"] = []
    elif route.cookie:
        described["security"] = [*KEYS, COOKIE]
    parameters = [
        *[{"name": name, "in": "path", "required": True, "schema": NAME} for name in route.parameters],
        *[{"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()],
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {"required": True, "content": operation.body}
    found = {
        str(status): {"description": text, "content": content} for status, (text, content) in operation.more.items()
    }
    described["responses"] = {
        str(operation.status): {"description": "The answer", "content": operation.answer},
        **found,
        "default": {"description": "An error", "content": json("ErrorEnvelope")},
    }
    return described
