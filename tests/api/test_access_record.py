"""An access record equals one that `logging` makes, and its line is the same in every format."""

from __future__ import annotations

import copy
import io
import json
import logging
import logging.handlers
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.agent_request import AgentRequest, Principal
from openai_compat.api.access_log import log_access
from openai_compat.api.access_record import FIELDS, Line, access_record, fields_of, line_of, make_line
from openai_compat.turns.turn_log import TurnLog
from openai_compat.wire.reducer import Usage
from openai_compat_adapters.logs import JsonFormatter, LineHandler, TextFormatter
from tests.requirements import requirement

LOGGER = logging.getLogger("openai_compat")
ORDINARY = logging.makeLogRecord({})


def a_turn(agent: str = "helper", **of_turn: Any) -> TurnLog:
    request = AgentRequest(model=agent, messages=(), raw_messages=[])
    return TurnLog("chat", agent, request, "chatcmpl-1", outcome="ok", **of_turn)


def a_line(*, note: str = "", agent: str = "helper", **of_turn: Any) -> Line:
    began, turn = time.monotonic(), a_turn(agent, **of_turn)
    return make_line(
        "req_1", "POST", "/v1/chat/completions", 200, began=began, note=note, principal="ann", turn=turn, reason=None
    )


def a_record(line: Line | None = None) -> logging.LogRecord:
    return access_record(logging.INFO, line or a_line())


@requirement("log.turn")
def test_a_record_has_the_attributes_of_any_other_and_the_fields_of_its_line() -> None:
    record = a_record()
    assert vars(record).keys() == vars(ORDINARY).keys() | {*FIELDS}
    ours = logging.Formatter("%(levelname)s %(name)s %(process)d %(threadName)s %(agent)s %(status)s %(message)s")
    said = "req_1 POST /v1/chat/completions 200 0 ms agent=helper principal=ann"
    whole = f"INFO openai_compat {record.process} {threading.current_thread().name} helper 200 {said}"
    assert ours.format(a_record()) == whole
    assert record.getMessage() == record.msg == said
    assert record.msecs == int(record.created % 1 * 1000)
    assert 0 <= record.relativeCreated <= ORDINARY.relativeCreated + 3_600_000


@requirement("log.turn")
@pytest.mark.parametrize("name", ["levelname", "exc_info", "agent", "msecs"])
def test_each_attribute_is_there_for_who_asks_for_it_first(name: str) -> None:
    assert getattr(a_record(), name) == vars(a_record()).get(name, ...) or name == "msecs"
    assert not hasattr(a_record(), "not_there")


@requirement("log.turn")
def test_attributes_may_be_set_and_taken_away_before_anything_was_read() -> None:
    record = a_record()
    del record.stack_info
    record.args = ("x",)
    assert not hasattr(record, "stack_info")
    assert (record.args, vars(record)["agent"]) == (("x",), "helper")
    with pytest.raises(AttributeError, match="stack_info"):
        del record.stack_info


@requirement("log.everywhere")
@pytest.mark.parametrize("turn", [a_turn(), None], ids=["turn", "request"])
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_to_be_written_a_record_needs_no_more_than_its_line(formatter: logging.Formatter, turn: TurnLog | None) -> None:
    line = make_line("req_1", "GET", "/", 200, began=0, note="", principal="ann", turn=turn, reason=None)
    record = access_record(logging.INFO, line)
    formatter.format(record)
    assert record.access_line is line


def test_a_level_that_a_filter_has_named_is_told() -> None:
    record = logging.makeLogRecord({"msg": "x", "levelno": 25, "levelname": "NOTICE"})
    assert json.loads(JsonFormatter().format(record))["level"] == "notice"


@requirement("log.everywhere")
def test_a_formatter_of_ones_own_is_asked_for_lines_too() -> None:
    class Marked(TextFormatter):
        def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
            return f"> {super().formatMessage(record)}"

    assert Marked().format(a_record()).startswith("> ")
    assert Marked().format(logging.makeLogRecord({"msg": "x", "levelno": logging.INFO})).startswith("> ")


@requirement("log.turn")
def test_a_record_that_is_read_in_another_thread_names_its_own() -> None:
    record, found = a_record(), list[str | None]()
    reader = threading.Thread(target=lambda: found.append(record.threadName), name="reader")
    reader.start()
    reader.join()
    assert found == [threading.current_thread().name]


@requirement("log.turn")
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
@pytest.mark.parametrize("way", [copy.copy, lambda record: pickle.loads(pickle.dumps(record)), "queue"])
def test_what_has_gone_through_a_copy_a_pickle_or_a_queue_is_the_same_line(
    way: Any, formatter: logging.Formatter
) -> None:
    record = a_record(a_line(usage=Usage(), queued=0.0, asks=("pay",), note='a "note"'))
    expected = formatter.format(record)
    if way == "queue":
        waiting = queue.SimpleQueue[Any]()
        logging.handlers.QueueHandler(waiting).emit(record)
        other = waiting.get()
    else:
        other = way(record)
    assert formatter.format(other) == expected


@requirement("log.turn")
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_filter_may_change_what_is_told(formatter: logging.Formatter) -> None:
    def without_who(record: logging.LogRecord) -> bool:
        record.principal, record.path = "someone", "/hidden"
        record.color = "green"
        return True

    stream = io.StringIO()
    handler = LineHandler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(without_who)
    handler.handle(record := a_record())
    written = stream.getvalue()
    assert "someone" in written
    assert "/hidden" in written
    assert "ann" not in written
    assert (vars(record)["principal"], vars(record)["color"], vars(record)["agent"]) == ("someone", "green", "helper")


def write_a_line() -> None:
    log_access(
        "req_1", "POST", "/v1/x", 200, began=time.monotonic(), note="", principal=Principal("ann"), turn=a_turn()
    )


@requirement("log.everywhere")
def test_filters_and_levels_of_the_logger_are_obeyed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER.name)
    write_a_line()
    LOGGER.addFilter(refuse := lambda record: False)
    write_a_line()
    LOGGER.removeFilter(refuse)
    caplog.set_level(logging.WARNING, LOGGER.name)
    write_a_line()
    assert [(record.getMessage(), vars(record)["agent"]) for record in caplog.records] == [
        ("req_1 POST /v1/x 200 0 ms agent=helper principal=ann", "helper")
    ]


def test_what_a_handler_keeps_stays_as_it_was_while_the_turn_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    turn = a_turn()
    turn.outcome = None
    with caplog.at_level(logging.INFO, LOGGER.name):
        log_access("req_1", "POST", "/v1/x", 200, began=0, note="client left", principal=Principal("ann"), turn=turn)
    turn.end(Usage(1, 2, reported=True), None, None)
    (record,) = caplog.records
    assert (vars(record)["outcome"], vars(record)["input_tokens"]) == (None, None)


@requirement("log.turn")
def test_a_line_break_from_outside_is_escaped_once_however_often_the_record_is_copied() -> None:
    record = a_record(a_line(agent="a\n\u2028ü"))
    told = "a\\n\\u2028\\xfc"
    assert vars(record)["model"] == told
    assert json.loads(JsonFormatter().format(record))["model"] == told
    assert json.loads(JsonFormatter().format(copy.copy(copy.copy(record))))["model"] == told


@pytest.fixture
def factory() -> Iterator[None]:
    theirs = logging.getLogRecordFactory()

    def with_trace(*args: Any, **named: Any) -> logging.LogRecord:
        record = theirs(*args, **named)
        record.trace = "0af7"
        return record

    logging.setLogRecordFactory(with_trace)
    yield
    logging.setLogRecordFactory(theirs)


@requirement("log.everywhere")
@pytest.mark.usefixtures("factory")
def test_where_a_record_factory_is_set_it_makes_the_records(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER.name):
        write_a_line()
    (record,) = caplog.records
    assert (vars(record)["trace"], vars(record)["agent"]) == ("0af7", "helper")


texts = st.text(st.characters(), max_size=20)


@requirement("log.turn")
@given(
    agent=texts,
    note=texts,
    asks=st.none() | st.lists(texts, min_size=1).map(tuple),
    counts=st.none() | st.integers(0, 9),
)
def test_as_json_it_is_the_object_of_its_fields(
    agent: str, note: str, asks: tuple[str, ...] | None, counts: int | None
) -> None:
    usage = None if counts is None else Usage(input_tokens=counts, output_tokens=counts)
    line = a_line(agent=agent, note=note, asks=asks, usage=usage, queued=counts and counts / 1000)
    record = a_record(line)
    told = json.loads(JsonFormatter().format(record))
    assert [*told] == ["time", "level", *FIELDS, "pid"]
    assert {name: told[name] for name in FIELDS} == fields_of(line)
    assert (told["level"], told["pid"]) == ("info", record.process)


def test_records_of_others_are_no_lines_even_with_an_event_of_their_own() -> None:
    assert line_of(logging.makeLogRecord({"event": "theirs", "msg": "x"})) is None
    assert json.loads(JsonFormatter().format(logging.makeLogRecord({"msg": "x"})))["message"] == "x"


FORKED = """
import os, sys
from openai_compat.api.access_record import access_record, make_line
from openai_compat.turns.turn_log import TurnLog
from openai_compat.agent_request import AgentRequest
from openai_compat_adapters.logs import JsonFormatter

turn = TurnLog("chat", "agent", AgentRequest(model="agent", messages=(), raw_messages=[]), "chatcmpl-1")
line = make_line("req_1", "POST", "/", 200, began=0, note="", principal="ann", turn=turn, reason=None)
def tell():
    print(os.getpid(), JsonFormatter().format(access_record(20, line)), flush=True)

tell()
child = os.fork()
if child:  # one after the other, or they write into each other's lines
    os.waitpid(child, 0)
tell()
"""


@requirement("log.everywhere")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_after_a_fork_lines_have_the_id_of_the_new_process() -> None:
    ran = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, check=True, text=True, timeout=60)
    told = [line.split(" ", 1) for line in ran.stdout.splitlines()]
    assert len({process for process, _ in told}) == 2
    assert [json.loads(line)["pid"] for _, line in told] == [int(process) for process, _ in told]


@requirement("log.everywhere")
def test_the_handler_writes_what_a_stream_handler_writes() -> None:
    written = []
    for kind in (LineHandler, logging.StreamHandler):
        stream = io.StringIO()
        handler = kind(stream)
        handler.setFormatter(TextFormatter())
        handler.handle(record := a_record())
        handler.addFilter(lambda each: each is not record)
        handler.handle(record)
        written.append(stream.getvalue())
    assert written[0].count("\n") == written[1].count("\n") == 1
    assert written[0].split()[1:] == written[1].split()[1:]


@requirement("log.everywhere")
def test_a_stream_that_cannot_be_written_stops_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    closed = io.StringIO()
    handler = LineHandler(closed)
    handler.setFormatter(TextFormatter())
    closed.close()
    handler.handle(a_record())
    assert "Logging error" in capsys.readouterr().err
