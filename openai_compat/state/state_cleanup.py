"""Tells agents to forget unreachable states, so that they can drop their own threads and sessions."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping

import anyio

from ..aio.background import Task, spawn
from ..backend import AgentBackend, SupportsForget
from ..errors import Unavailable
from ..stores.port import Store
from ..stores.records import AgentState, Key
from ..wire.json import from_stored_json

PAGE = 100
"""States that are read at once."""

PATIENCE = 30.0
"""Timeout for an agent to forget one state, in seconds."""

logger = logging.getLogger("openai_compat")


class StateCleanup:
    """Calls `forget` of the agents after deletions, and with each sweep of the store.

    Each session is forgotten at least once: an unreachable state stays in the store until its agent has forgotten it. If the
    agent fails, or is not served here, the next sweep of any process tries again.

    Attributes:
        agents: the agents by the names under which their states are stored.
    """

    def __init__(self, store: Store, agents: Mapping[str, AgentBackend]) -> None:
        self.agents = dict(agents)
        self._store = store
        self._task: Task | None = None
        self._again = False

    def schedule(self) -> None:
        """Forget unreachable states in the background, after a deletion."""
        if not any([isinstance(agent, SupportsForget) for agent in self.agents.values()]):
            return
        if self._task is not None and not self._task.done:
            self._again = True  # the running task may have read the store already
        else:
            self._task = spawn(self._run, "state cleanup", lambda: None)

    async def end(self) -> None:
        """Stop; a later sweep handles states that are not forgotten yet."""
        if self._task is not None:
            self._task.cancel()
            await self._task.wait()

    async def _run(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            await self.forget()

    async def forget(self) -> None:
        """Have all unreachable states forgotten. Raises nothing; errors are logged."""
        after: Key | None = None
        try:
            while page := await self._store.gone_states(after, PAGE):
                for principal, state in page:
                    after = Key(principal, state.id)
                    if await self._try_forget(state):
                        await self._store.forget_state(after)
        except Unavailable as error:
            logger.info("agents could not be told what to forget: %s", error.code)
        except Exception as error:  # serving goes on in any case
            logger.error("agents could not be told what to forget", exc_info=error)

    async def _try_forget(self, state: AgentState) -> bool:
        agent = self.agents.get(state.agent)
        if agent is None:  # another server with this store may have it
            return False
        if not isinstance(agent, SupportsForget):
            return True
        try:
            with anyio.fail_after(PATIENCE):
                told = agent.forget(from_stored_json(state.body))
                if inspect.isawaitable(told):
                    await told
        except Exception as error:
            logger.warning("%s could not forget a state, and is asked again later", state.agent, exc_info=error)
            return False
        return True
