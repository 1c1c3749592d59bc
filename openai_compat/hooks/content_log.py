"""An opt-in log of prompts and answers: sampled, truncated, redacted, and in a separate logger."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ..agents.setting_types import check_setting
from ..events import AgentEvent, TextDelta, ToolCallReady
from ..policies.hooks import Hooks, TurnInfo, TurnOutcome
from ..wire.json import dumps

own = logging.getLogger("openai_compat")


@dataclass(slots=True)
class _TurnContent:
    texts: list[str] = field(default_factory=list[str])
    size: int = 0
    tools: list[ToolCallReady] = field(default_factory=list[ToolCallReady])


class ContentLog(Hooks):
    """Logs the user's last message, the answer, and the tool calls of some turns. Nothing else logs any of these.

    Each record is one JSON object with the fields `request_id`, `agent`, `principal`, `conversation`, `prompt`, `answer` and
    `tools`; the record's `content` holds them as a dict. Raises TypeError or ValueError for a wrong setting.

    Args:
        logger: name of the logger, so that content can be routed elsewhere or dropped.
        sample: fraction of turns that is logged, 0 to 1.
        limit: maximum length of each text, in characters.
        redact: applied to each text before it is logged. If it fails, the turn is not logged.
    """

    def __init__(
        self,
        logger: str = "openai_compat.content",
        *,
        sample: float = 0.01,
        limit: int = 4000,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        check_setting("logger", logger, str)
        check_setting("sample", sample, int, float)
        check_setting("limit", limit, int)
        if not 0 <= sample <= 1:
            raise ValueError("sample is a part of all turns, from 0 to 1")
        self._logger = logging.getLogger(logger)
        self._sample = sample
        self._limit = limit
        self._redact = redact
        self._contents: dict[TurnInfo, _TurnContent] = {}

    def started(self, turn: TurnInfo) -> None:
        """Decide whether the turn is logged."""
        if random.random() < self._sample and self._logger.isEnabledFor(logging.INFO):  # noqa: S311  (no secret)
            self._contents[turn] = _TurnContent()

    def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
        """Collect the output, up to the limit."""
        collected = self._contents.get(turn)
        if collected is None:
            return
        if isinstance(item, ToolCallReady):
            collected.tools.append(item)
            return
        text = item if isinstance(item, str) else item.text if isinstance(item, TextDelta) else ""
        if collected.size <= self._limit:
            collected.texts.append(text)
            collected.size += len(text)

    def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        """Log the prompt and the answer once the run is over."""
        collected = self._contents.pop(turn, None)
        if collected is None:
            return
        try:
            content = {
                "request_id": turn.request_id,
                "agent": turn.agent,
                "principal": turn.principal.id,
                "conversation": turn.request.conversation_id,
                "prompt": self._clean(turn.request.prompt),
                "answer": self._clean("".join(collected.texts)),
                "tools": [{"name": call.name, "arguments": self._clean(call.arguments)} for call in collected.tools],
            }
        except Exception as error:  # its text may quote content that should be redacted
            own.error("%s: content could not be redacted: %s", turn.request_id, type(error).__name__)
            return
        extra = {"request_id": turn.request_id, "content": content}
        self._logger.info("%s", dumps(content).decode(), extra=extra)

    def _clean(self, text: str) -> str:
        # Redacted before truncation: half a secret is not recognised.
        text = text if self._redact is None else self._redact(text)
        return text if len(text) <= self._limit else text[: self._limit] + "…"
