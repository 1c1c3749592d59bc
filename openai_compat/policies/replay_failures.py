"""Settings for retries of a request whose agent failed."""

from __future__ import annotations

from dataclasses import dataclass

from ..agents.setting_types import check_fields


@dataclass(frozen=True, slots=True)
class ReplayFailures:
    """Answers an identical retry by the same caller with the earlier failure, without running the agent again.

    For clients that retry whatever the response says. Identical means the same path, body and relevant headers. Only failures
    of agents that were started are stored, in this process. Failures that the agent marks as safe to retry
    (`should_retry=True`) are not replayed.

    A person's retry differs from a program's by the pause before it, or by a changed request. A client that announces its
    retry (`x-stainless-retry-count`, as OpenAI's SDKs do) may take longer.

    Attributes:
        seconds: time after the client got the failure during which its request counts as a retry.
        longest: seconds after the failure itself; later requests always run the agent.
    """

    # Not by `x-stainless-retry-count: 0`: gptme and aider retry around SDKs that send 0 each time.
    seconds: float = 5.0
    longest: float = 60.0

    def __post_init__(self) -> None:
        check_fields(self)
