"""Settings for turns whose client has disconnected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..agents.setting_types import check_fields


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Decides how a turn goes on without its client.

    Attributes:
        then: "cancel" stops the agent at once; "finish" lets it end, within the request deadline, so that its
            conversation, its stored completion and its idempotency key get the answer; "detach" does so too, but for
            `grace` seconds at the most.
        grace: seconds.
    """

    then: Literal["cancel", "finish", "detach"] = "cancel"
    grace: float = 600.0

    def __post_init__(self) -> None:
        check_fields(self)
