"""An agent that plays a script, for tests of servers, clients and user interfaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Protocol, TypeAlias, runtime_checkable

from ..agent_request import AgentRequest
from ..backend import Capabilities, RunContext
from ..events import AgentEvent


@runtime_checkable
class Gate(Protocol):
    """An awaitable gate; an `anyio.Event` is one."""

    async def wait(self) -> object:
        """Return when the gate is open."""
        ...


Step: TypeAlias = str | AgentEvent | BaseException | Gate
"""Text or an event to be yielded, an exception to be raised, or a gate to wait at."""


class ScriptedBackend:
    """Plays one script for each turn, and repeats the last one after that.

    ```python
    backend = ScriptedBackend(
        [ToolCallReady("call_1", "weather", '{"city": "Paris"}')],
        ["It is ", "sunny."],
    )
    ```

    `requests` holds the requests so far, one for each turn. Raises ValueError if there is no script at all.
    """

    def __init__(self, *scripts: Iterable[Step], capabilities: Capabilities | None = None) -> None:
        if not scripts:
            raise ValueError("a scripted backend needs at least one script")
        self._scripts = [list(script) for script in scripts]
        self.capabilities = capabilities or Capabilities()
        self.requests: list[AgentRequest] = []

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Play the script of this turn: yield its texts and events, wait at its gates, raise its exceptions."""
        script = self._scripts[min(len(self.requests), len(self._scripts) - 1)]
        self.requests.append(request)
        for step in script:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, Gate):
                await step.wait()
            else:
                yield step
