"""Settings for a request that is sent again after its agent has failed."""

from __future__ import annotations

from dataclasses import dataclass

from ..agents.setting_types import check_fields


@dataclass(frozen=True, slots=True)
class ReplayFailures:
    """Answers an identical request of the same caller with the failure that it had, without running the agent again.

    For clients that send a failed request again whatever the answer says. Identical is the whole of it: path, body and
    the headers that have a say in the answer. Only failures are kept, of agents that were started, and in this process.
    What an agent says may be run again (`should_retry=True`) is.

    A person's "try again" is told from a program's by the pause before it, or by what is changed. A client that says
    that it tries again (`x-stainless-retry-count`, as OpenAI's SDKs do) may take longer.

    Attributes:
        seconds: how soon after it heard of the failure a client's request is taken for the same one.
        longest: seconds after the failure itself, when the request runs again in any case.
    """

    # Not by `x-stainless-retry-count: 0`: gptme and aider try again around SDKs that say 0 each time.
    seconds: float = 5.0
    longest: float = 60.0

    def __post_init__(self) -> None:
        check_fields(self)
