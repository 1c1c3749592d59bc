"""The access log's record: what Python's `logging` hands to handlers, with the fields of the line."""

from __future__ import annotations

import logging
import threading
import time
from functools import lru_cache
from typing import Any, TypeAlias

from ..policies.hooks import RefusalReason
from ..turns.turn_log import Finish, Outcome, TurnLog

MAX_TEXT = 200
"""Longest text from outside that a line shows, in characters."""

REQUEST_FIELDS = (
    "event",
    "request_id",
    "method",
    "path",
    "status",
    "ms",
    "principal",
    "outcome",
    "reason",
    "error",
    "note",
)
"""The fields of a line that is not about a turn."""

FIELDS = (
    *("event", "request_id", "method", "path", "api", "status", "ms", "queue_ms", "first_ms", "stream"),
    *("agent", "model", "principal", "conversation", "response", "input_tokens", "output_tokens", "cached_tokens"),
    *("tool_calls", "finish", "asks", "outcome", "reason", "error", "note"),
)
"""The fields of a turn's line, set on its record. Other records of the request have `request_id` too."""

MESSAGE_FIELDS = (
    ("agent=", "agent", ""),
    ("principal=", "principal", ""),
    ("in=", "input_tokens", ""),
    ("out=", "output_tokens", ""),
    ("queue=", "queue_ms", "ms"),
    ("first=", "first_ms", "ms"),
    ("tools=", "tool_calls", ""),
    ("finish=", "finish", ""),
    ("outcome=", "outcome", ""),
    ("reason=", "reason", ""),
)
"""The fields that the message shows after the time: label, field, unit. Unknown, empty and "ok" values are left out."""

COMMON = (
    *("event", "method", "path", "api", "status", "stream", "agent", "model"),
    *("tool_calls", "finish", "asks", "outcome", "reason", "error", "note"),
)
"""The fields whose values repeat from line to line, so that formatters can cache their output."""

OWN = (
    *("request_id", "principal", "ms", "queue_ms", "first_ms"),
    *("conversation", "response", "input_tokens", "output_tokens", "cached_tokens"),
)
"""The fields whose values differ from line to line."""

# None means unknown. Texts from outside are kept as received: `escape_text` is for the code that writes them.
Common: TypeAlias = tuple[
    str,
    str,
    str,
    str | None,
    int | None,
    bool | None,
    str | None,
    str | None,
    int | None,
    Finish | None,
    tuple[str, ...] | None,
    Outcome | None,
    RefusalReason | None,
    str | None,
    str,
]
Own: TypeAlias = tuple[
    str,
    str | None,
    int,
    int | None,
    int | None,
    str | None,
    str | None,
    int | None,
    int | None,
    int | None,
]
Line: TypeAlias = tuple[Common, Own]
"""The values of a line's fields: those of COMMON, then those of OWN."""

_own_dict = vars(logging.LogRecord)["__dict__"].__get__
"""The attributes that a record has already, without those that are created on demand."""

_ORDINARY = frozenset(vars(logging.makeLogRecord({})))
"""The attributes that every record has."""


class AccessRecord(logging.LogRecord):
    """The record of a line: an ordinary record, except that its attributes are created when one is first read or set.

    It has 47 attributes, counting the fields of the line. Creating them all takes longer than writing the line, and most
    handlers need only the line itself, the time and the level.

    Attributes:
        access_line: the line, until its attributes are created; None afterwards.
    """

    access_line: Line | None = None

    # Type checkers expect a variable here, as `object` has one; to Python, and to `vars`, a property will do.
    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """All attributes, created at the first access."""
        own: dict[str, Any] = _own_dict(self)
        line = own.get("access_line")
        if line is not None:
            fields = fields_of(line)
            made = logging.LogRecord(self.name, self.levelno, __file__, 0, _message(fields), (), None, "log_access")
            made.relativeCreated -= (made.created - self.created) * 1000
            made.msecs = float(int(self.created % 1 * 1000))
            made.threadName = next((each.name for each in threading.enumerate() if each.ident == self.thread), None)
            own |= {**vars(made), **fields, **own}
            own.pop("access_line", None)  # last: another thread may read the record meanwhile
        return own

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        """Copy the record as an ordinary one, for a queue or another process."""
        return logging.makeLogRecord, (dict(self.__dict__),)


class _Attribute:
    """An attribute that every record has; an access record creates it when it is first read or set."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, record: AccessRecord, kind: type[AccessRecord]) -> Any:
        try:
            return record.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def __set__(self, record: AccessRecord, value: object) -> None:
        record.__dict__[self._name] = value

    def __delete__(self, record: AccessRecord) -> None:
        if record.__dict__.pop(self._name, self) is self:
            raise AttributeError(self._name)


for _name in _ORDINARY.union(FIELDS) - {"name", "levelno", "created", "thread"}:
    setattr(AccessRecord, _name, _Attribute(_name))


def access_record(level: int, line: Line) -> AccessRecord:
    """Make the record of a line. Attributes that are created later still describe the present moment."""
    record = AccessRecord.__new__(AccessRecord)  # calling the class would take as long as all the rest
    record.name = "openai_compat"
    record.levelno = level
    record.created = time.time()
    record.thread = threading.get_ident()
    record.access_line = line
    return record


def make_line(
    request_id: str,
    method: str,
    path: str,
    status: int,
    *,
    began: float,
    note: str,
    principal: str,
    turn: TurnLog | None,
    reason: RefusalReason | None,
) -> Line:
    """Collect the values of a line. `log_access` describes the arguments."""
    ms, path, who = int((time.monotonic() - began) * 1000), path[:MAX_TEXT], principal[:MAX_TEXT] or None
    note = note and note[:MAX_TEXT]
    refused = status >= 400 or not status or reason is not None
    known = status or None
    outcome: Outcome | None
    if turn is not None and (turn.outcome is not None or not refused):
        outcome, error = turn.outcome, turn.error and turn.error[:MAX_TEXT]
    else:
        outcome, error = "refused" if refused else "ok", note if status >= 400 else None
    if turn is None:
        return (
            ("request", method, path, None, known, None, None, None, None, None, None, outcome, reason, error, note),
            (request_id, who, ms, None, None, None, None, None, None, None),
        )
    request, queued, first, usage = turn.request, turn.queued, turn.first, turn.usage
    stream, model, conversation = request.stream, request.model[:MAX_TEXT], request.conversation_id
    queue_ms = tools = first_ms = sent = got = cached = None
    if queued is not None:
        queue_ms, tools = int(queued * 1000), turn.tool_calls
    if first is not None:
        first_ms = int((first - began) * 1000)
    if conversation is not None:
        conversation = conversation[:MAX_TEXT]
    if usage is not None:
        sent, got, cached = usage.input_tokens, usage.output_tokens, usage.cached_tokens
    end, asks, api, agent = turn.finish, turn.asks, turn.api, turn.agent
    return (
        ("turn", method, path, api, known, stream, agent, model, tools, end, asks, outcome, reason, error, note),
        (request_id, who, ms, queue_ms, first_ms, conversation, turn.response_id, sent, got, cached),
    )


def ordinary_record(logger: logging.Logger, level: int, line: Line) -> logging.LogRecord:
    """Make a record with the configured record factory, or the logger's own `makeRecord`."""
    fields = fields_of(line)
    made = logger.makeRecord(logger.name, level, __file__, 0, _message(fields), (), None, "log_access")
    vars(made).update(fields)
    return made


def line_of(record: logging.LogRecord) -> Line | None:
    """The line of an access record, None for any other record. A record that went through a queue has the fields only."""
    if isinstance(record, AccessRecord):
        line = record.access_line
        if line is not None:
            return line
    values = vars(record)
    if not values.keys() >= {*REQUEST_FIELDS}:
        return None
    common: Any = [values.get(name) for name in COMMON]
    common[COMMON.index("asks")] = values.get("asks") and tuple(values["asks"])
    own: Any = [values.get(name) for name in OWN]
    return tuple(common), tuple(own)


def fields_of(line: Line) -> dict[str, Any]:
    """The fields of a line by name, in order."""
    values: dict[str, Any] = dict(zip(COMMON + OWN, line[0] + line[1], strict=True))
    for name in ("path", "model", "principal", "conversation", "error", "note"):
        values[name] = values[name] and escape_text(values[name])
    values["asks"] = values["asks"] and [escape_text(name) for name in values["asks"]]
    return {name: values[name] for name in (FIELDS if values["event"] == "turn" else REQUEST_FIELDS)}


def _message(fields: dict[str, Any]) -> str:
    line = f"{fields['request_id']} {fields['method']} {fields['path']} {fields['status'] or '-'} {fields['ms']} ms"
    for name, field, unit in MESSAGE_FIELDS:
        value = fields.get(field)
        if value and value != "ok":
            line += f" {name}{value}{unit}"
    return f"{line} {fields['note']}" if fields["note"] else line


@lru_cache(256)
def escape_text(text: str) -> str:
    """Escape a text from outside, so that a line break cannot start a new log line. Escaping twice changes nothing."""
    return text if text.isascii() and text.isprintable() else text.encode("unicode_escape").decode()
