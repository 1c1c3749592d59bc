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
        path: path of the WebSocket.
        workflows: agents by workflow id, for messages with a `workflow_id`.
        busy: handling of a message in a thread with a running turn: "supersede" stops that turn, "queue" waits for it,
            "reject" answers with the error `conversation_busy`.
        queue: seconds to wait in that queue, or for the stopped turn to end.
        grace: seconds that a turn continues without a connection that follows it.
        replay: seconds after its end that a turn's frames can be replayed.
        ring: frames of a thread that are kept for replay.
        ring_bytes: approximate size of these frames, in bytes.
        rings_bytes: the same for all idle threads together; beyond it, the oldest frames of the caller with the most are
            evicted.
        rings_bytes_per_principal: the same for the threads of one caller.
        tool_timeout: seconds that a turn waits for the results of the client's tools.
        ping: seconds between two `ping` frames.

    Raises ValueError for an invalid path, or numbers that are not positive.
    """

    path: str = "/chat"
    workflows: Mapping[str, Agent] = field(default_factory=dict[str, Any])
    busy: Literal["supersede", "queue", "reject"] = "supersede"
    queue: float = 30.0
    # A sleeping phone or a reloaded page comes back to its answer.
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
