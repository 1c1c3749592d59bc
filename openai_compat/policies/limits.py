"""Limits of a request's size, and deadlines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..agent_request import Principal
from ..agents.setting_types import check_fields
from ..wire.json import MAX_VALUES

LEASE = 15.0
"""Seconds after which the locks of a process that has died are free again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on size and number.

    Attributes:
        body: bytes of a request body. The default takes pictures as base64.
        values: values in the JSON of a request, or of a frame on a WebSocket: objects, lists, texts, numbers. Each
            costs some sixty bytes of memory and some microseconds, however short it is.
        file: bytes of an uploaded file.
        files: files that a principal may have uploaded.
        attachments: bytes of all uploaded files that an agent gets at once, each as often as it is named.
        choices: `n`, the answers that one request may ask for.
        state: size of what an agent may leave with a turn (`Finished.state`), in bytes of JSON; more is its error. It is
            that much because some frameworks leave the whole conversation, with its pictures.
        answer: size of a plain answer, in characters, or bytes of media; an agent that says more fails with 502.
        slots: agents running at once, over all requests; what more requests get is for `Admission` to say. A request
            for `n` answers needs `n` slots. This also bounds the threads of plain agents.
        slots_per_agent: the same for each agent, None for no bound of its own.
        slots_per_principal: the same for each caller; or a function that says it for each principal, None for no bound.
        shared_slots: agents running at once in all processes that share the server's store; the slots of a process
            that has died are free again after `Deadlines.lease`.
        parked: agents that wait for a person or for the client, after their turn (`RunContext.approve`); each keeps its
            slot. One that would be more fails with 503 `too_many_waiting`.
    """

    body: int = 20 * 1024 * 1024
    values: int = MAX_VALUES
    file: int = 32 * 1024 * 1024
    files: int = 100
    attachments: int = 50 * 1024 * 1024
    # Each is a run of the agent, and OpenAI's document allows 128.
    choices: int = 8
    state: int = 4 * 1024 * 1024
    answer: int = 50_000_000
    # Agents, not open requests: one that goes on after its client has left still uses memory and threads. So few that the
    # slots end before the CPU does, also where answers take a fifth of a second: docs/how-to/concurrency.md.
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
        first_event: silence before the agent's first event, None for no bound of its own; 504 `agent_silent`.
        idle: silence between two events, likewise.
        request: a whole turn, from the parsed request to the agent's last word; 504 or an error in the stream.
        background: the same for a response in the background.
        auth: for an `authenticate` that waits to say who calls; 503.
        body: the arrival of the request body; 408.
        head: how long a stream's 200 is held back for the agent's first event, so that early failures have a status.
        heartbeat: silence in a stream after which a comment is sent.
        write: one write to a client that does not read; the connection is cut.
        connection: how long a WebSocket lasts; the client has to connect anew then.
        grace: how long a stopped agent may take to end before it is reported as a leak.
        parked: how long an agent may wait for a person or for the client (`RunContext.approve`). Nobody having come by
            then is a denial, and the agent is stopped.
        lease: how long what a turn holds in a shared store is still taken for held after its process has died.
    """

    request: float = 300.0
    background: float = 3600.0
    auth: float = 5.0
    body: float = 30.0
    # A status line cannot be taken back.
    head: float = 2.0
    # Well below the 300 s of silence after which Codex and undici hang up.
    heartbeat: float = 10.0
    # A client that does not read holds its agent's buffer, and a slot.
    write: float = 60.0
    grace: float = 5.0
    # OpenAI's own bound, with its own error: `websocket_connection_limit_reached`.
    connection: float = 3600.0
    parked: float = 600.0
    lease: float = LEASE
    first_event: float | None = None
    idle: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
