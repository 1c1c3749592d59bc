"""Logging, set up in one call, the same under every server: text lines for people, or one JSON object per line.

configure_logging("info", "json")
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Literal, TextIO

from pydantic_core import PydanticSerializationError, to_json

from openai_compat.api.access_record import FIELDS, AccessRecord, Common, Line, escape_text, fields_of, line_of

from ._request_line import innermost_user_frame, request_line
from ._terminal_colors import colored, wants_colors

__all__ = ("JsonFormatter", "LineHandler", "TextFormatter", "configure_logging")


def configure_logging(level: str = "info", form: Literal["text", "json"] = "text", *, tracebacks: bool = True) -> None:
    """Log to stderr from `level` on. If the root logger already has handlers, they stay and none is added.

    Call it in each process, before the server is made. With `tracebacks` False, only the type of an exception is logged,
    because tracebacks of agents may quote prompts.

    Raises ValueError for an unknown level or form.
    """
    names = ("critical", "error", "warning", "info", "debug")
    if level.lower() not in names:
        raise ValueError(f"level has to be one of {', '.join(names)}, not {level!r}")
    if form not in ("text", "json"):
        raise ValueError(f"form has to be 'text' or 'json', not {form!r}")
    handler = LineHandler()
    handler.setFormatter(
        JsonFormatter(tracebacks=tracebacks) if form == "json" else TextFormatter(tracebacks=tracebacks)
    )
    logging.basicConfig(handlers=[handler])
    logging.captureWarnings(form == "json")  # so that every line on stderr is JSON
    logging.getLogger("openai_compat").setLevel(level.upper())


class LineHandler(logging.StreamHandler[TextIO]):
    """A `StreamHandler` for stderr that saves four calls per line."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write the record, unless a filter rejects it."""
        if self.filters or self.formatter is None or self.lock is None:
            return bool(super().handle(record))
        try:
            line = self.formatter.format(record) + self.terminator
            with self.lock:
                self.stream.write(line)
                self.stream.flush()
        except RecursionError:  # as in logging: reporting it would take one more call
            raise
        except Exception:
            self.handleError(record)
        return True


class TextFormatter(logging.Formatter):
    """Text lines: the time, the level of warnings and errors, the message, and `trace=`; with colors in a terminal.

    The line of a request has columns instead of a message. The line of an exception names it and its place in your own
    code; the traceback follows.

    Args:
        tracebacks: False logs only the type of an exception.
    """

    def __init__(self, *, tracebacks: bool = True) -> None:
        super().__init__()
        self._tracebacks = tracebacks
        self._colors = wants_colors(sys.stderr)

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as a line, followed by its traceback."""
        if isinstance(record, AccessRecord):  # which has no traceback
            return self.formatMessage(record)
        more = self._tracebacks and (record.exc_info or record.exc_text or record.stack_info)
        return super().format(record) if more else self.formatMessage(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """Format the line without the traceback."""
        line = line_of(record)
        if line is not None:
            told, trace = f"{_local_time(int(record.created))} {request_line(line, colors=self._colors)}", _trace_ids()
            return told if trace is None else f"{told} trace={trace['trace_id']}"
        colors, clock = self._colors, _local_time(int(record.created))
        warns = record.levelno >= logging.WARNING
        level = f"{record.levelname} " if warns else ""
        told = f"{clock} {level}{record.getMessage()}{_exception_text(record, words=self._tracebacks)}"
        if not warns or not colors:
            return told
        return colored(told, "yellow" if record.levelno == logging.WARNING else "red")


class JsonFormatter(logging.Formatter):
    """JSON lines: `time` (UTC, ISO 8601), `level`, `message`, the fields of the access line, and `traceback` if there is one.

    An access line has its fields and no message, which would only repeat them. `trace_id` and `span_id` are those of
    OpenTelemetry's current span, if there is one.

    Args:
        tracebacks: False logs only the type of an exception, as `exception`.
    """

    def __init__(self, *, tracebacks: bool = True) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as one line of JSON."""
        line = line_of(record)
        if line is not None and line[0][0] == "turn":
            return _turn_json(record, line)
        ours = isinstance(record, AccessRecord)  # which may lack the other attributes
        level = logging.getLevelName(record.levelno) if ours else record.levelname
        entry: dict[str, Any] = {"time": _timestamp(record.created), "level": level.lower()}
        if line is not None:
            entry |= fields_of(line)
        else:
            fields = vars(record)
            entry |= {name: fields[name] for name in FIELDS if name in fields}
            entry["message"] = record.getMessage()
        entry |= _trace_ids() or {}
        entry["pid"] = _pid() if ours else record.process
        if line is None and record.exc_info and self._tracebacks:
            entry["traceback"] = self.formatException(record.exc_info)
        elif line is None and record.exc_info:
            entry["exception"] = _exception_name(record)
        return _dump_json(entry)


NO_TOKENS = ',"input_tokens":null,"output_tokens":null,"cached_tokens":null'


def _turn_json(record: logging.LogRecord, line: Line) -> str:
    """Format a turn by a template, which takes a third of the time of a dict."""
    common, (request_id, who, ms, queued, first, conversation, response, sent, got, cached) = line
    process = None if isinstance(record, AccessRecord) else record.process
    level, request, agent, ending, pid = _shared_json(record.levelno, process, common)
    tokens = NO_TOKENS
    if sent is not None:
        tokens = f',"input_tokens":{sent},"output_tokens":{got},"cached_tokens":{"null" if cached is None else cached}'
    trace = _trace_ids()
    spans = "" if trace is None else f",{_dump_json(trace)[1:-1]}"
    return (
        f'{{"time":"{_timestamp(record.created)}{level}{_quoted(request_id)}{request}{ms}'
        f',"queue_ms":{"null" if queued is None else queued},"first_ms":{"null" if first is None else first}'
        f'{agent}{_shown(who)},"conversation":{"null" if conversation is None else _shown(conversation)}'
        f',"response":{"null" if response is None else _quoted(response)}{tokens}{ending}{spans}{pid}'
    )


@lru_cache(512)
def _shared_json(level: int, process: int | None, common: Common) -> tuple[str, str, str, str, str]:
    """The JSON that many lines share, cached. Each piece ends at the next field that differs between lines."""
    event, method, path, api, status, stream, agent, model, tools, finish, asks, outcome, reason, error, note = common
    names = asks and [escape_text(name) for name in asks]
    first, second, third, fourth, last = [
        _dump_json(piece)[1:-1]
        for piece in (
            {"level": logging.getLevelName(level).lower(), "event": event},
            {"method": method, "path": escape_text(path), "api": api, "status": status},
            {"stream": stream, "agent": agent, "model": model and escape_text(model)},
            {"tool_calls": tools, "finish": finish, "asks": names, "outcome": outcome}
            | {"reason": reason, "error": error and escape_text(error), "note": escape_text(note)},
            {"pid": process or _pid()},
        )
    ]
    return f'",{first},"request_id":', f',{second},"ms":', f',{third},"principal":', f",{fourth}", f",{last}}}"


@lru_cache(256)
def _shown(text: str | None) -> str:
    return "null" if text is None else _dump_json(escape_text(text))


def _dump_json(value: Any) -> str:
    try:
        return to_json(value, fallback=str).decode()
    except PydanticSerializationError:  # a lone surrogate, which UTF-8 cannot carry
        return json.dumps(value, default=str, separators=(",", ":"))


def _on_fork() -> None:
    _pid.cache_clear()
    _shared_json.cache_clear()  # contains the process id too


# Cached: the system call takes as long as filling in the template.
_pid = lru_cache(1)(os.getpid)
if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=_on_fork)


MILLISECONDS = tuple([f".{number:03d}Z" for number in range(1000)])
"""The ends of a timestamp."""


def _timestamp(created: float) -> str:
    second = int(created)
    return _utc_time(second) + MILLISECONDS[int((created - second) * 1000)]


# Cached, because a second has many lines, and formatting a time takes as long as the rest of a line.


@lru_cache(1)
def _local_time(second: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(second))


@lru_cache(1)
def _utc_time(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _exception_text(record: logging.LogRecord, *, words: bool) -> str:
    """Describe an exception and its place in the user's code in one line; without `words`, by its type only."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    error = record.exc_info[1]
    said = " ".join(str(error).split()) if words else ""
    if not said.isprintable():
        said = said.encode("unicode_escape").decode()
    shown = f"{_exception_name(record)}: {said[:500]}" if said else _exception_name(record)
    where = innermost_user_frame(error.__traceback__)
    return f": {shown} ({where})" if where else f": {shown}"


def _exception_name(record: logging.LogRecord) -> str:
    return record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] is not None else ""


def _trace_ids() -> dict[str, str] | None:
    """The ids of the current span, if this process uses OpenTelemetry."""
    context = sys.modules.get("opentelemetry.context")
    if context is None or not context.get_current():
        return None
    trace = sys.modules["opentelemetry.trace"]
    its = trace.get_current_span().get_span_context()
    return {"trace_id": f"{its.trace_id:032x}", "span_id": f"{its.span_id:016x}"} if its.is_valid else None
