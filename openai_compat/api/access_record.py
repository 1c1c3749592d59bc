"""The record of the access log: what Python's `logging` hands to handlers, with the fields of the line."""

from __future__ import annotations

import logging
import threading
import time
from functools import lru_cache
from typing import Any, TypeAlias

from ..policies.hooks import RefusalReason
from ..turns.turn_log import Finish, Outcome, TurnLog

SHOWN_OF = 200
"""Characters of a text from outside that are told."""

OF_REQUEST = (
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
"""The fields of a line that is not of a turn."""

FIELDS = (
    *("event", "request_id", "method", "path", "api", "status", "ms", "queue_ms", "first_ms", "stream"),
    *("agent", "model", "principal", "conversation", "response", "input_tokens", "output_tokens", "cached_tokens"),
    *("tool_calls", "finish", "asks", "outcome", "reason", "error", "note"),
)
"""The fields of the line of a turn, on its record: `request_id` is on others of the request too."""

SHOWN = (
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
"""What the message tells after the time, as far as it is known and not nothing."""

COMMON = (
    *("event", "method", "path", "api", "status", "stream", "agent", "model"),
    *("tool_calls", "finish", "asks", "outcome", "reason", "error", "note"),
)
"""The fields in which many lines are the same, so that formatters can keep what they have written of them."""

OWN = (
    *("request_id", "principal", "ms", "queue_ms", "first_ms"),
    *("conversation", "response", "input_tokens", "output_tokens", "cached_tokens"),
)
"""The fields that are a line's own."""

# What is not known is None. Texts from outside are as they came: `shown` is for who writes them.
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
"""The values of the fields of a line."""

_own_dict = vars(logging.LogRecord)["__dict__"].__get__
"""The attributes that a record has, without those that it gets when somebody asks."""

_ORDINARY = frozenset(vars(logging.makeLogRecord({})))
"""What every record has."""


class AccessRecord(logging.LogRecord):
    """The record of a line: an ordinary one, whose attributes are put there when somebody asks for one or sets it.

    It has 47 with the fields of the line. To make them all takes longer than to write the line, for which most handlers need
    nothing else than the line itself, the time and the level.

    Attributes:
        access_line: what has not become attributes; None once it has.
    """

    access_line: Line | None = None

    # The type checkers want a variable here, as `object` has one; to Python, and to `vars`, it is an attribute as any other.
    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """All attributes, from now on as those of any other record."""
        own: dict[str, Any] = _own_dict(self)
        line = own.get("access_line")
        if line is not None:
            fields = fields_of(line)
            made = logging.LogRecord(self.name, self.levelno, __file__, 0, _message(fields), (), None, "log_access")
            made.relativeCreated -= (made.created - self.created) * 1000
            made.msecs = float(int(self.created % 1 * 1000))
            made.threadName = next((each.name for each in threading.enumerate() if each.ident == self.thread), None)
            own |= {**vars(made), **fields, **own}
            own.pop("access_line", None)  # last: another thread may ask meanwhile
        return own

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        """A copy, for a queue or another process, is an ordinary record."""
        return logging.makeLogRecord, (dict(self.__dict__),)


class _Attribute:
    """An attribute that an access record has with all others, once somebody asks for it or sets it."""

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
    """The record of a line, made now. Nothing else has to be kept of now: who asks later finds it as it was."""
    record = AccessRecord.__new__(AccessRecord)  # to call the class would take as long as the rest
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
    """What a line tells. See `log_access`, which says what these are."""
    ms, path, who = int((time.monotonic() - began) * 1000), path[:SHOWN_OF], principal[:SHOWN_OF] or None
    note = note and note[:SHOWN_OF]
    refused = status >= 400 or not status or reason is not None
    known = status or None
    outcome: Outcome | None
    if turn is not None and (turn.outcome is not None or not refused):
        outcome, error = turn.outcome, turn.error and turn.error[:SHOWN_OF]
    else:
        outcome, error = "refused" if refused else "ok", note if status >= 400 else None
    if turn is None:
        return (
            ("request", method, path, None, known, None, None, None, None, None, None, outcome, reason, error, note),
            (request_id, who, ms, None, None, None, None, None, None, None),
        )
    request, queued, first, usage = turn.request, turn.queued, turn.first, turn.usage
    stream, model, conversation = request.stream, request.model[:SHOWN_OF], request.conversation_id
    queue_ms = tools = first_ms = sent = got = cached = None
    if queued is not None:
        queue_ms, tools = int(queued * 1000), turn.tool_calls
    if first is not None:
        first_ms = int((first - began) * 1000)
    if conversation is not None:
        conversation = conversation[:SHOWN_OF]
    if usage is not None:
        sent, got, cached = usage.input_tokens, usage.output_tokens, usage.cached_tokens
    end, asks, api, agent = turn.finish, turn.asks, turn.api, turn.agent
    return (
        ("turn", method, path, api, known, stream, agent, model, tools, end, asks, outcome, reason, error, note),
        (request_id, who, ms, queue_ms, first_ms, conversation, turn.response_id, sent, got, cached),
    )


def ordinary_record(logger: logging.Logger, level: int, line: Line) -> logging.LogRecord:
    """The record as the factory of records makes it, that somebody has set, or the logger."""
    fields = fields_of(line)
    made = logger.makeRecord(logger.name, level, __file__, 0, _message(fields), (), None, "log_access")
    vars(made).update(fields)
    return made


def line_of(record: logging.LogRecord) -> Line | None:
    """The line that a record is of; None if it is another's. One that went through a queue has its fields only."""
    if isinstance(record, AccessRecord):
        line = record.access_line
        if line is not None:
            return line
    values = vars(record)
    if not values.keys() >= {*OF_REQUEST}:
        return None
    common: Any = [values.get(name) for name in COMMON]
    common[COMMON.index("asks")] = values.get("asks") and tuple(values["asks"])
    own: Any = [values.get(name) for name in OWN]
    return tuple(common), tuple(own)


def fields_of(line: Line) -> dict[str, Any]:
    """The fields of a line by their names, in order."""
    values: dict[str, Any] = dict(zip(COMMON + OWN, line[0] + line[1], strict=True))
    for name in ("path", "model", "principal", "conversation", "error", "note"):
        values[name] = values[name] and shown(values[name])
    values["asks"] = values["asks"] and [shown(name) for name in values["asks"]]
    return {name: values[name] for name in (FIELDS if values["event"] == "turn" else OF_REQUEST)}


def _message(fields: dict[str, Any]) -> str:
    line = f"{fields['request_id']} {fields['method']} {fields['path']} {fields['status'] or '-'} {fields['ms']} ms"
    for name, field, unit in SHOWN:
        value = fields.get(field)
        if value and value != "ok":
            line += f" {name}{value}{unit}"
    return f"{line} {fields['note']}" if fields["note"] else line


@lru_cache(256)
def shown(text: str) -> str:
    """A text from outside. A line break in it must not begin a line of its own. What has been shown stays as it is."""
    return text if text.isascii() and text.isprintable() else text.encode("unicode_escape").decode()
