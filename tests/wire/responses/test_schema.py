"""Streams and responses conform to OpenAI's OpenAPI document, which may not be copied here: it is read if found on disk."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from tests.support.responses_stream import Json, Told, streams

NEWER = frozenset(["response.compaction.compacting"])
"""Events that OpenAI's SDKs know but its document does not list yet."""

ROOT = Path(__file__).parents[3]


@cache
def document() -> Json:
    """Return the document from the path in `OPENAI_OPENAPI`, or from `shared/spec` next to this project."""
    found = sorted((ROOT.parent / "shared" / "spec").glob("openai-openapi-*.json"))
    path = Path(os.environ.get("OPENAI_OPENAPI") or (found[-1] if found else ""))
    if not path.is_file():
        pytest.skip("OpenAI's OpenAPI document is not here")
    whole: Json = json.loads(path.read_text("utf-8"))
    return whole


@cache
def schema(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**document(), "$ref": f"#/components/schemas/{name}"})


@cache
def event_schemas() -> dict[str, jsonschema.Draft202012Validator]:
    """Return the schemas by event type: an error in the `anyOf` of all events would be meaningless."""
    schemas: Json = document()["components"]["schemas"]
    references = [event["$ref"].rsplit("/", 1)[-1] for event in schemas["ResponseStreamEvent"]["anyOf"]]
    return {schemas[name]["properties"]["type"]["enum"][0]: schema(name) for name in references}


def check_against(validator: Any, value: Json) -> None:
    error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    assert error is None, f"{error.json_path}: {error.message}"


@settings(max_examples=40)
@given(streams())
def test_every_response_is_as_openais_document_says(told: Told) -> None:
    check_against(schema("Response"), told.events[-1]["response"])


@settings(max_examples=40)
@given(streams())
def test_every_event_is_as_openais_document_says(told: Told) -> None:
    for event in told.events:
        if event["type"] not in NEWER:
            check_against(event_schemas()[event["type"]], without_usage(event))


def without_usage(event: Json) -> Json:
    """Remove a null `usage`: OpenAI's examples send it, and Open Responses requires it, but the schema forbids it."""
    if event.get("response", {}).get("usage", "") is not None:
        return event
    return {**event, "response": {key: value for key, value in event["response"].items() if key != "usage"}}
