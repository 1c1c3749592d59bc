"""Logging, set up in one call, the same under every server: lines for people, or one JSON object a line for programs.

configure_logging("info", "json")
"""

from __future__ import annotations

import json
import logging
import sys
import time
from functools import lru_cache
from typing import Any, Literal

from pydantic_core import PydanticSerializationError, to_json

from openai_compat.api.access_log import FIELDS

from ._request_line import own_frame, request_line
from ._terminal_colors import colored, wants_colors

__all__ = ("JsonFormatter", "TextFormatter", "configure_logging")


def configure_logging(level: str = "info", form: Literal["text", "json"] = "text", *, tracebacks: bool = True) -> None:
    """Log to stderr from `level` on. Where the root logger has handlers already, they stay and none is added.

    Call it before the server is made, in each process. `tracebacks` False leaves them out but for the type of the exception:
    those of agents may quote prompts.

    Raises ValueError for a level or a form that there is not.
    """
    names = ("critical", "error", "warning", "info", "debug")
    if level.lower() not in names:
        raise ValueError(f"level has to be one of {', '.join(names)}, not {level!r}")
    if form not in ("text", "json"):
        raise ValueError(f"form has to be 'text' or 'json', not {form!r}")
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter(tracebacks=tracebacks) if form == "json" else TextFormatter(tracebacks=tracebacks)
    )
    logging.basicConfig(handlers=[handler])
    logging.captureWarnings(form == "json")  # so that every line on stderr is JSON
    logging.getLogger("openai_compat").setLevel(level.upper())


class TextFormatter(logging.Formatter):
    """Lines: the time, the level of warnings and errors, the message, and `trace=`; colors in a terminal.

    The line of a request has columns instead of a message. That of an exception says which it is, and where in your own
    code it was raised; the traceback follows.

    Args:
        tracebacks: whether they follow; otherwise only the type of the exception is told.
    """

    def __init__(self, *, tracebacks: bool = True) -> None:
        super().__init__()
        self._tracebacks = tracebacks
        self._colors = wants_colors(sys.stderr)

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, with the traceback after it."""
        more = self._tracebacks and (record.exc_info or record.exc_text or record.stack_info)
        return super().format(record) if more else self.formatMessage(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """The line without the traceback."""
        fields, colors = record.__dict__, self._colors
        clock = _clock(int(record.created))
        if "event" in fields:
            line = f"{clock} {request_line(fields, colors=colors)}"
            return f"{line} trace={trace['trace_id']}" if (trace := _trace()) else line
        warns = record.levelno >= logging.WARNING
        level = f"{record.levelname} " if warns else ""
        line = f"{clock} {level}{record.getMessage()}{_exception(record, words=self._tracebacks)}"
        if not warns or not colors:
            return line
        return colored(line, "yellow" if record.levelno == logging.WARNING else "red")


class JsonFormatter(logging.Formatter):
    """`time` (UTC, ISO 8601), `level`, `message`, the fields of the access line, and `traceback`, where there is one.

    An access line has its fields and no message, which would only repeat them. `trace_id` and `span_id` are those of
    OpenTelemetry's current span, if there is one.

    Args:
        tracebacks: whether they are told; otherwise `exception` is the type alone.
    """

    def __init__(self, *, tracebacks: bool = True) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        when = f"{_second(int(record.created))}.{int(record.msecs):03d}Z"
        entry: dict[str, Any] = {"time": when, "level": record.levelname.lower()}
        fields = record.__dict__
        entry |= {name: fields[name] for name in FIELDS if name in fields}
        if "method" not in entry:
            entry["message"] = record.getMessage()
        entry |= _trace()
        entry["pid"] = record.process
        if record.exc_info and self._tracebacks:
            entry["traceback"] = self.formatException(record.exc_info)
        elif record.exc_info:
            entry["exception"] = _type_of(record)
        try:
            return to_json(entry, fallback=str).decode()
        except PydanticSerializationError:  # a lone surrogate, which UTF-8 cannot carry
            return json.dumps(entry, default=str)


# There are many lines in a second, and to write down a time takes as long as all the rest of one.


@lru_cache(1)
def _clock(second: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(second))


@lru_cache(1)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _exception(record: logging.LogRecord, *, words: bool) -> str:
    """What was raised, and where in people's own code; in its own `words`, or its type alone. In one line."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    error = record.exc_info[1]
    said = " ".join(str(error).split()) if words else ""
    if not said.isprintable():
        said = said.encode("unicode_escape").decode()
    shown = f"{_type_of(record)}: {said[:500]}" if said else _type_of(record)
    where = own_frame(error.__traceback__)
    return f": {shown} ({where})" if where else f": {shown}"


def _type_of(record: logging.LogRecord) -> str:
    return record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] is not None else ""


def _trace() -> dict[str, str]:
    """The ids of the current span, where something of this process uses OpenTelemetry."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    span = trace.get_current_span()
    if span is trace.INVALID_SPAN:
        return {}
    its = span.get_span_context()
    return {"trace_id": f"{its.trace_id:032x}", "span_id": f"{its.span_id:016x}"} if its.is_valid else {}
