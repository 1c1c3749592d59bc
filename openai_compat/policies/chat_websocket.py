"""Settings of the chat WebSocket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..agents.adapt import Agent
from ..agents.setting_types import check_fields
from .paths import check_path


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatWebSocket:
    """Serves chat over a WebSocket, in JSON or MessagePack.

    Attributes:
        path: where it is.
        workflows: agents by workflow id, for messages with a `workflow_id`.
        busy: what a message gets in a thread in which a turn is running: the thread, that turn being stopped, a place
            in the queue, or an error `conversation_busy`.
        queue: seconds to wait in that queue, or for the stopped turn to end.
        grace: seconds for which a turn goes on when no connection follows it any more.
        replay: seconds for which the frames of a turn that has ended can be had again.
        ring: frames of a thread that are kept to be had again.
        ring_bytes: how much these frames may hold, roughly, in bytes.
        rings_bytes: the same for all threads together in which no turn runs; where it is passed, the oldest frames go
            of the caller who has most.
        rings_bytes_per_principal: the same for the threads of one caller.
        tool_timeout: seconds for which a turn waits for the results of the client's tools.
        ping: seconds between two `ping` frames.

    Raises ValueError for a path that is none, or numbers that are not positive.
    """

    path: str = "/chat"
    workflows: Mapping[str, Agent] = field(default_factory=dict[str, Any])
    busy: Literal["supersede", "queue", "reject"] = "supersede"
    queue: float = 30.0
    # A phone that sleeps, or a page that is loaded again, comes back to its answer.
    grace: float = 600.0
    replay: float = 300.0
    ring: int = 2000
    ring_bytes: int = 8 * 1024 * 1024
    rings_bytes: int = 256 * 1024 * 1024
    rings_bytes_per_principal: int = 32 * 1024 * 1024
    tool_timeout: float = 60.0
    ping: float = 25.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_path("path", self.path)
        rings = (self.ring, self.ring_bytes, self.rings_bytes, self.rings_bytes_per_principal)
        if min(self.queue, self.tool_timeout, self.ping, *rings) <= 0:
            raise ValueError("queue, ring, ring_bytes, rings_bytes, tool_timeout and ping are positive")
