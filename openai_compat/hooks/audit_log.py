"""An audit log of agent runs: one JSON object per line, appended before the agent continues."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..agents.setting_types import check_setting
from ..events import AgentEvent, Paused, ToolCallReady, ToolResult
from ..policies.hooks import Hooks, TurnInfo, TurnOutcome
from ..wire.json import dumps


class AuditLog(Hooks):
    """Appends to a file what agents were asked to do and did: caller, time, tools, approvals, outcome.

    Each line is appended with a single write, so processes on one machine can share the file. The agent continues only after
    the write, so a killed process has logged all that it did. Prompts, answers and results are not logged.
    Lines of one run have the same `turn`, `index` and `run`. The values of `event` are

    - `started`: with `request_id`, `principal`, `api`, `agent`, `model`, `conversation`, `response`;
    - `decided`: a person's decision about a call of an earlier turn: `call`, `approved`, `always`, `reason`, and `changed`
      if the person changed the arguments;
    - `tool`: a call: `call`, `name`, `executor`, and its arguments or their SHA-256;
    - `result`: `call`, `is_error` and `denied`;
    - `asked`: a call that waits for a person;
    - `ended`: `finish`, `error`, `cancelled`, `input_tokens`, `output_tokens`, `ms`.

    Raises TypeError for a wrong setting, OSError if the file cannot be opened.

    Args:
        path: the file; created readable for its owner only. Rotate it by renaming: it is opened again for each line.
        arguments: log the arguments of tools instead of their hash.
        sync: wait until each line is on disk (fsync).
    """

    def __init__(self, path: str | os.PathLike[str], *, arguments: bool = False, sync: bool = False) -> None:
        check_setting("arguments", arguments, bool)
        check_setting("sync", sync, bool)
        self._path = Path(path).absolute()
        self._arguments = arguments
        self._sync = sync
        self._append(b"")  # fail at start if the file cannot be written

    def started(self, turn: TurnInfo) -> None:
        """Log the caller, and the decisions about calls of the earlier turn."""
        request = turn.request
        self._write(
            turn,
            "started",
            request_id=turn.request_id,
            principal=turn.principal.id,
            api=turn.api,
            agent=turn.agent,
            model=request.model,
            conversation=request.conversation_id,
            response=turn.response_id,
        )
        if request.resume is not None:
            for call_id, decision in request.resume.decisions.items():
                self._write(
                    turn,
                    "decided",
                    call=call_id,
                    approved=decision.approved,
                    always=decision.always,
                    reason=decision.reason,
                    changed=decision.arguments is not None,
                )

    def event(self, turn: TurnInfo, item: AgentEvent | str) -> None:
        """Log tool calls, their results, and calls that wait for a person."""
        match item:
            case ToolCallReady(call_id, name, arguments, executor):
                logged = {"arguments": arguments} if self._arguments else {"arguments_sha256": _digest(arguments)}
                self._write(turn, "tool", call=call_id, name=name, executor=executor, **logged)
            case ToolResult(call_id=call_id, is_error=is_error, denied=denied):
                self._write(turn, "result", call=call_id, is_error=is_error, denied=denied)
            case Paused(pending=pending):
                for call in pending:
                    if call.waits_for == "approval":
                        logged = {"arguments_sha256": _digest(call.arguments)}
                        logged = {"arguments": call.arguments} if self._arguments else logged
                        self._write(turn, "asked", call=call.call_id, name=call.name, **logged)
            case _:
                pass

    def ended(self, turn: TurnInfo, outcome: TurnOutcome) -> None:
        """Log the outcome of a run."""
        usage, error = outcome.usage, outcome.error
        self._write(
            turn,
            "ended",
            finish=outcome.finish,
            error=None if error is None else error.code or error.type,
            cancelled=outcome.cancelled,
            input_tokens=None if usage is None else usage.input_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            ms=int(outcome.seconds * 1000),
        )

    def _write(self, turn: TurnInfo, event: str, **fields: Any) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": time, "event": event, "turn": turn.id, "index": turn.index, "run": turn.run, **fields}
        self._append(dumps(line) + b"\n")

    def _append(self, line: bytes) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            written = os.write(file, line)
            if written < len(line):  # a full disk: half a line must not pass for a whole one
                raise OSError(f"only {written} of {len(line)} bytes could be written")
            if self._sync:
                os.fsync(file)
        finally:
            os.close(file)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
