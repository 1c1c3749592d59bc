"""An agent that does what tests of chat models expect of a model: it calls the offered tool and fills in any schema."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from openai_compat import AgentRequest, FunctionTool, ToolCallReady, UsageReported
from openai_compat.messages import AssistantMessage, ToolMessage

JOKE = {"setup": "Why?", "punchline": "Because."}
"""The object that one of the tests describes in words alone."""


async def obedient(request: AgentRequest) -> AsyncIterator[Any]:
    yield UsageReported(12, 7)
    last = request.messages[-1]
    answered = any(isinstance(message, AssistantMessage) for message in request.messages)
    schema = request.json_schema
    if request.response_format is not None:
        yield json.dumps(JOKE if schema is None else example(schema.schema))
    elif isinstance(last, ToolMessage):
        yield f"It is {last.text}."
    elif request.tools and (request.tool_choice.required or not answered):
        tool = request.tools[0]
        assert isinstance(tool, FunctionTool)
        yield ToolCallReady("call_1", tool.name, json.dumps(example(tool.input_schema)))
    else:
        for word in ("Hello", " ", "to you", " ", "and to all"):
            yield word


def example(schema: Any, definitions: Any = None) -> Any:
    """A value valid by a JSON Schema, with the number 3 that the tests ask for."""
    definitions = definitions or schema.get("$defs") or schema.get("definitions") or {}
    if "$ref" in schema:
        return example(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return example(schema[name][0], definitions)
    if "enum" in schema or "const" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    match schema.get("type"):
        case "object":
            return {name: example(of, definitions) for name, of in schema.get("properties", {}).items()}
        case "array":
            return [example(schema.get("items", {}), definitions)]
        case "integer" | "number":
            return 3
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "你好啊集团 こんにちは株式会社"  # one of the tests wants this text unescaped
