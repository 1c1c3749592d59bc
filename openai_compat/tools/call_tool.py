"""One call of a tool: limits its time and output, and turns failures into a text for the model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import anyio
from pydantic_core import PydanticSerializationError, to_json

from ..errors import AgentError
from .registry import AgentTool, ToolArguments, ToolContext
from .tool_error import ToolError

FAILED = "The tool failed."
"""The text for the model after an exception that is not a `ToolError`."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of a call, as the model sees it."""

    text: str
    is_error: bool = False
    denied: bool = False


async def call_tool(tool: AgentTool, arguments: ToolArguments, context: ToolContext) -> CallResult:
    """Run a tool. Every exception except a cancellation becomes a result."""
    try:
        with anyio.move_on_after(tool.timeout):
            return CallResult(truncate(as_text(await tool.call(arguments.values, context)), tool.output_limit))
    except ToolError as error:
        return CallResult(truncate(clean(str(error)) or FAILED, tool.output_limit), is_error=True)
    except AgentError as error:
        return CallResult(error.message, is_error=True)
    except anyio.get_cancelled_exc_class():
        raise
    except BaseException as error:  # SystemExit too: a tool must not end the server
        with suppress(Exception):  # a failing log handler must not end the turn
            context.run.logger.error("%s: the tool '%s' failed", context.run.request_id, tool.name, exc_info=error)
        return CallResult(FAILED, is_error=True)
    return CallResult(f"The tool did not end within {tool.timeout:g} seconds, and was stopped.", is_error=True)


def as_text(value: object) -> str:
    """Return a result as text: JSON for anything that pydantic can serialize. Raises ToolError for anything else."""
    if isinstance(value, str):
        return clean(value)
    try:
        return to_json(value, inf_nan_mode="strings", serialize_unknown=False).decode()  # NaN is not JSON
    except (PydanticSerializationError, UnicodeError, RecursionError, ValueError):
        raise ToolError("The tool's result cannot be written as text.") from None


def truncate(text: str, limit: int) -> str:
    """Return the text, or its beginning and a note about the rest."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[Cut off here, after {limit} characters.]"


def clean(text: str) -> str:
    """Return text that every API can carry: lone surrogates are replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
