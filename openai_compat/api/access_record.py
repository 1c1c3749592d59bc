"""The line of the access log, and its record: what Python's `logging` hands to handlers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

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
"""What the line tells after the time, as far as it is known and not nothing."""


class AccessLine:
    """What a line tells. What is not known is None; text from outside has no line breaks. `str` is the line as text."""

    __slots__ = FIELDS

    event: str
    request_id: str
    method: str
    path: str
    api: str | None
    status: int | None
    ms: int
    queue_ms: int | None
    first_ms: int | None
    stream: bool | None
    agent: str | None
    model: str | None
    principal: str | None
    conversation: str | None
    response: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    tool_calls: int | None
    finish: Finish | None
    asks: list[str] | None
    outcome: Outcome | None
    reason: RefusalReason | None
    error: str | None
    note: str

    def __init__(
        self,
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
    ) -> None:
        """As `log_access`, which says what these are."""
        self.request_id = request_id
        self.method = method
        self.path = shown(path[:SHOWN_OF])
        self.status = status or None
        self.ms = int((time.monotonic() - began) * 1000)
        self.principal = shown(principal[:SHOWN_OF]) or None
        self.reason = reason
        self.note = note
        refused = status >= 400 or not status or reason is not None
        if turn is not None:
            self._of_turn(turn, began)
        else:
            self.event = "request"
        if turn is not None and (turn.outcome is not None or not refused):
            self.outcome, self.error = turn.outcome, turn.error
        else:
            self.outcome, self.error = "refused" if refused else "ok", note if status >= 400 else None

    def _of_turn(self, turn: TurnLog, began: float) -> None:
        request, usage, conversation = turn.request, turn.usage, turn.request.conversation_id
        queued, first = turn.queued, turn.first
        self.event = "turn"
        self.api = turn.api
        self.agent = turn.agent
        self.model = shown(request.model[:SHOWN_OF])
        self.stream = request.stream
        self.conversation = conversation and shown(conversation[:SHOWN_OF])
        self.response = turn.response_id
        self.queue_ms, self.tool_calls = (None, None) if queued is None else (int(queued * 1000), turn.tool_calls)
        self.first_ms = None if first is None else int((first - began) * 1000)
        if usage is None:
            self.input_tokens = self.output_tokens = self.cached_tokens = None
        else:
            self.input_tokens, self.output_tokens = usage.input_tokens, usage.output_tokens
            self.cached_tokens = usage.cached_tokens
        self.finish = turn.finish
        self.asks = turn.asks and [shown(name) for name in turn.asks]

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that it has."""
        return FIELDS if self.event == "turn" else OF_REQUEST

    def fields(self) -> Iterator[tuple[str, Any]]:
        """The names that this line has, each with its value."""
        return ((name, getattr(self, name)) for name in self.names)

    def __str__(self) -> str:
        line = f"{self.request_id} {self.method} {self.path} {self.status or '-'} {self.ms} ms"
        for name, field, unit in SHOWN:
            value = getattr(self, field) if field in self.names else None
            if value and value != "ok":
                line += f" {name}{value}{unit}"
        return f"{line} {self.note}" if self.note else line


def line_of(record: logging.LogRecord) -> AccessLine | None:
    """The line that a record is of; None if it is another's. One that went through a queue has its fields only."""
    if isinstance(record.msg, AccessLine):
        return record.msg
    values = vars(record)
    if not values.keys() >= {*OF_REQUEST}:
        return None
    line = AccessLine.__new__(AccessLine)
    for name in FIELDS:
        setattr(line, name, values.get(name))
    return line


def access_record(logger: logging.Logger, level: int, line: AccessLine) -> logging.LogRecord:
    """The record of a line, by the record factory, if somebody has set one."""
    if logging.getLogRecordFactory() is logging.LogRecord and type(logger) is logging.Logger:
        return AccessRecord(logger.name, level, line)
    record = logger.makeRecord(logger.name, level, __file__, 0, line, (), None, access_record.__name__)
    vars(record).update(line.fields())
    return record


_own_dict = vars(logging.LogRecord)["__dict__"].__get__
"""The attributes that a record has, without those that it gets when somebody asks."""


class AccessRecord(logging.LogRecord):
    """A record whose attributes, but for a few, are put there when somebody asks for the first of them.

    It has 47 with the fields of the line. To make them all takes longer than to write the line, for which most handlers need
    nothing else than the line itself, the time and the level.
    """

    def __init__(self, name: str, level: int, line: AccessLine) -> None:
        """Nothing else has to be kept now: who asks later finds it as it was, in another thread too."""
        self.name = name
        self.levelno = level
        self.msg = self._line = line
        self.created = time.time()
        self.thread = threading.get_ident()
        self.threadName = threading.current_thread().name

    # The type checkers want a variable here, as `object` has one; to Python, and to `vars`, it is an attribute as any other.
    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """All attributes, those too that are only worked out once somebody asks."""
        own: dict[str, Any] = _own_dict(self)
        line = own.get("_line")
        if line is not None:
            whole = vars(
                logging.LogRecord(self.name, self.levelno, __file__, 0, line, (), None, access_record.__name__)
            )
            whole["relativeCreated"] -= (whole["created"] - self.created) * 1000
            whole["msecs"] = float(int(self.created % 1 * 1000))
            own |= {**whole, **dict(line.fields()), **own}
            own.pop("_line", None)  # last: another thread may ask meanwhile
        return own

    def __getattr__(self, name: str) -> Any:
        """An attribute that is not there yet."""
        every = self.__dict__
        if name not in every:
            raise AttributeError(name)
        return every[name]

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        """A copy, for a queue or another process, is an ordinary record."""
        return logging.makeLogRecord, (dict(self.__dict__),)


@lru_cache(256)
def shown(text: str) -> str:
    """A text from outside. A line break in it must not begin a line of its own."""
    return text.encode("unicode_escape").decode()
