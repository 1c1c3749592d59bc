"""Limits on size and number, and deadlines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..agent_request import Principal
from ..agents.setting_types import check_fields
from ..wire.json import MAX_VALUES

LEASE = 15.0
"""Seconds after which the locks of a dead process are released."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on size and number.

    Attributes:
        body: bytes of a request body. The default has room for images as base64.
        values: JSON values in a request or a WebSocket frame: objects, lists, strings, numbers. Each costs about sixty bytes
            of memory and some microseconds, however short it is.
        file: bytes of an uploaded file.
        files: uploaded files per principal.
        attachments: bytes of all uploaded files passed to an agent at once; a file referenced twice counts twice.
        choices: maximum of `n`, the number of answers that one request may ask for.
        state: bytes of JSON of an agent's state (`Finished.state`); a larger state is an error of the agent. The default
            is large because some frameworks store the whole conversation, including images.
        answer: size of a non-streamed answer, in characters, or bytes of media; an agent that exceeds it fails with 502.
        slots: agents running at once, over all requests; `Admission` decides about requests beyond that. A request for `n`
            answers needs `n` slots. This also bounds the threads of plain agents.
        slots_per_agent: the same per agent, None for no separate bound.
        slots_per_principal: the same per caller; or a function that returns it for a principal, None for no bound.
        shared_slots: agents running at once in all processes that share the server's store; the slots of a dead process
            are released after `Deadlines.lease`.
        parked: agents that wait for a person or for the client after their turn (`RunContext.approve`); each keeps its
            slot. An agent beyond this number fails with 503 `too_many_waiting`.
    """

    body: int = 20 * 1024 * 1024
    values: int = MAX_VALUES
    file: int = 32 * 1024 * 1024
    files: int = 100
    attachments: int = 50 * 1024 * 1024
    # Each choice is a run of the agent, and OpenAI's specification allows 128.
    choices: int = 8
    state: int = 4 * 1024 * 1024
    answer: int = 50_000_000
    # Agents, not open requests: an agent that continues after its client has disconnected still uses memory and threads.
    # Low enough that slots run out before the CPU, even if answers take a fifth of a second: docs/how-to/concurrency.md.
    slots: int = 128
    slots_per_agent: int | None = None
    slots_per_principal: int | Callable[[Principal], int | None] | None = None
    shared_slots: int | None = None
    parked: int = 32

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Bounds on time, all in seconds.

    Attributes:
        first_event: silence before the agent's first event, None for no separate bound; 504 `agent_silent`.
        idle: silence between two events, None for no separate bound; 504 `agent_silent`.
        request: a whole turn, from the parsed request to the agent's last output; 504, or an error in the stream.
        background: the same for a background response.
        auth: the result of an async `authenticate`; 503.
        body: the arrival of the request body; 408.
        head: time that a stream's 200 is held back for the agent's first event, so that early failures get a status code.
        heartbeat: silence in a stream after which a comment is sent.
        write: one write to a client that does not read; the connection is closed.
        connection: lifetime of a WebSocket, after which the client must reconnect.
        grace: time for a stopped agent to end before it is reported as a leak.
        parked: time that an agent may wait for a person or for the client (`RunContext.approve`). After that the call is
            denied, and the agent is stopped.
        lease: time until resources that a turn holds in a shared store are released after its process has died.
    """

    request: float = 300.0
    background: float = 3600.0
    auth: float = 5.0
    body: float = 30.0
    # A status line cannot be changed once sent.
    head: float = 2.0
    # Well below the 300 s of silence after which Codex and undici disconnect.
    heartbeat: float = 10.0
    # A client that does not read occupies its agent's buffer and a slot.
    write: float = 60.0
    grace: float = 5.0
    # OpenAI's own limit, with OpenAI's error: `websocket_connection_limit_reached`.
    connection: float = 3600.0
    parked: float = 600.0
    lease: float = LEASE
    first_event: float | None = None
    idle: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
