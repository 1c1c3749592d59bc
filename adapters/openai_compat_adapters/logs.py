"""Logging, set up in one call, the same under every server: lines for people, or one JSON object a line for programs.

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

from openai_compat.api.access_record import FIELDS, AccessLine, AccessRecord, line_of

from ._request_line import own_frame, request_line
from ._terminal_colors import colored, wants_colors

__all__ = ("JsonFormatter", "LineHandler", "TextFormatter", "configure_logging")


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
    handler = LineHandler()
    handler.setFormatter(
        JsonFormatter(tracebacks=tracebacks) if form == "json" else TextFormatter(tracebacks=tracebacks)
    )
    logging.basicConfig(handlers=[handler])
    logging.captureWarnings(form == "json")  # so that every line on stderr is JSON
    logging.getLogger("openai_compat").setLevel(level.upper())


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes to stderr what a `StreamHandler` would, without the four more calls that that takes for each line."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write the record, unless a filter holds it back."""
        if self.filters or self.formatter is None or self.lock is None:
            return bool(super().handle(record))
        try:
            line = self.formatter.format(record)
            with self.lock:
                self.stream.write(f"{line}{self.terminator}")
                self.stream.flush()
        except RecursionError:  # as logging does: to tell of it would be one more call
            raise
        except Exception:
            self.handleError(record)
        return True


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
        if isinstance(record.msg, AccessLine):  # which has none
            return self.formatMessage(record)
        more = self._tracebacks and (record.exc_info or record.exc_text or record.stack_info)
        return super().format(record) if more else self.formatMessage(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """The line without the traceback."""
        colors, clock, asked = self._colors, _clock(int(record.created)), line_of(record)
        if asked is not None:
            line = f"{clock} {request_line(asked, colors=colors)}"
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
        line = line_of(record)
        if line is not None and line.event == "turn":
            return _json_of_turn(line, record)
        entry: dict[str, Any] = {"time": _when(record.created), "level": record.levelname.lower()}
        if line is not None:
            entry |= line.fields()
        else:
            fields = vars(record)
            entry |= {name: fields[name] for name in FIELDS if name in fields}
            entry["message"] = record.getMessage()
        entry |= _trace()
        entry["pid"] = record.process
        if record.exc_info and self._tracebacks:
            entry["traceback"] = self.formatException(record.exc_info)
        elif record.exc_info:
            entry["exception"] = _type_of(record)
        return _json(entry)


def _json_of_turn(line: AccessLine, record: logging.LogRecord) -> str:
    """What `format` writes of a dict elsewhere, here by a template, which takes a third of the time."""
    level, request, asked, ending = _repeated(
        (record.levelno, line.method, line.path, line.api, line.status, line.stream, line.agent, line.model),
        (line.principal, line.finish, line.outcome, line.reason, line.error, line.note),
        None if line.asks is None else tuple(line.asks),
    )
    sent, got, cached = line.input_tokens, line.output_tokens, line.cached_tokens
    queued, first, tools = line.queue_ms, line.first_ms, line.tool_calls
    spans = f"{_json(trace)[1:-1]}," if (trace := _trace()) else ""
    pid = _pid() if isinstance(record, AccessRecord) else record.process
    return (
        f'{{"time":"{_when(record.created)}","level":{level},"event":"turn","request_id":{_quoted(line.request_id)},'
        f'{request},"ms":{line.ms},"queue_ms":{"null" if queued is None else queued},'
        f'"first_ms":{"null" if first is None else first},{asked},'
        f'"conversation":{"null" if line.conversation is None else _quoted(line.conversation)},'
        f'"response":{"null" if line.response is None else _quoted(line.response)},'
        f'"input_tokens":{"null" if sent is None else sent},"output_tokens":{"null" if got is None else got},'
        f'"cached_tokens":{"null" if cached is None else cached},"tool_calls":{"null" if tools is None else tools},'
        f'{ending},{spans}"pid":{"null" if pid is None else pid}}}'
    )


@lru_cache(256)
def _repeated(
    asked: tuple[int, str, str, str | None, int | None, bool | None, str | None, str | None],
    ended: tuple[str | None, str | None, str | None, str | None, str | None, str],
    asks: tuple[str, ...] | None,
) -> tuple[str, str, str, str]:
    """What many lines have in common, as JSON: the level, and pieces of an object."""
    level, method, path, api, status, stream, agent, model = asked
    principal, finish, outcome, reason, error, note = ended
    pieces: list[dict[str, Any]] = [
        {"method": method, "path": path, "api": api, "status": status},
        {"stream": stream, "agent": agent, "model": model, "principal": principal},
        {"finish": finish, "asks": asks, "outcome": outcome, "reason": reason, "error": error, "note": note},
    ]
    first, second, last = [_json(piece)[1:-1] for piece in pieces]
    return _json(logging.getLevelName(level).lower()), first, second, last


def _json(value: Any) -> str:
    try:
        return to_json(value, fallback=str).decode()
    except PydanticSerializationError:  # a lone surrogate, which UTF-8 cannot carry
        return json.dumps(value, default=str, separators=(",", ":"))


# A system call, which takes as long as to fill in the template.
_pid = lru_cache(1)(os.getpid)
if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=_pid.cache_clear)


MILLISECONDS = tuple([f".{number:03d}Z" for number in range(1000)])
"""The ends of a time."""


def _when(created: float) -> str:
    second = int(created)
    return _second(second) + MILLISECONDS[int((created - second) * 1000)]


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
