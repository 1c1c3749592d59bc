"""Settings for turns whose client has disconnected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..agents.setting_types import check_fields


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Decides whether a turn continues after its client has disconnected.

    Attributes:
        then: "cancel" stops the agent at once; "finish" lets it end, within the request deadline, so that its conversation,
            stored completion and idempotency key get the answer; "detach" does the same, but for at most `grace` seconds.
        grace: seconds for "detach".
    """

    then: Literal["cancel", "finish", "detach"] = "cancel"
    grace: float = 600.0

    def __post_init__(self) -> None:
        check_fields(self)
