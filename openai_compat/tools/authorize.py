"""Decides about one call: run it, deny it, or leave the decision to a later request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import anyio

from ..agent_request import AgentRequest, Decision
from ..backend import RunContext
from .approvals import Approver, Grants, Question
from .call_tool import CallResult, call_tool
from .modes import Facts, SecurityMode, Verdict, decide
from .registry import AgentTool, ToolArguments, ToolContext
from .sandbox import Sandbox
from .tool_error import ToolError

UNKNOWN = CallResult("There is no tool of that name.", is_error=True)
NOBODY = Decision(approved=False, reason="It needs approval, and there is nobody to ask.")
AT_ONCE = 16
"""Calls of one turn that run at the same time; the others wait."""


@dataclass(frozen=True, slots=True)
class CallAuthorizer:
    """Decides about the calls of one turn, and runs those that may."""

    tools: Mapping[str, AgentTool]
    modes: frozenset[SecurityMode]
    grants: Grants
    approver: Approver | None
    sandbox: Sandbox | None
    request: AgentRequest
    context: RunContext
    slots: anyio.Semaphore

    def surely_runs(self, name: str) -> bool:
        """True if calls of this tool run, whatever their arguments."""
        tool = self.tools.get(name)
        return tool is not None and decide(self.modes, Facts(tool.danger, sandbox=self._sandbox(tool))).action == "run"

    async def resolve(
        self, call_id: str, name: str, given: str, decision: Decision | None, begin: Callable[[str], None]
    ) -> CallResult | None:
        """Authorize and run a call; None if it waits for a decision. `decision` is one that was made already.

        `begin` is called with the arguments, which somebody may have changed, just before it runs.
        """
        tool = self.tools.get(name)
        if tool is None:
            return UNKNOWN
        try:
            # Checked before anybody is asked: nobody should approve a call that cannot run.
            arguments = tool.check(given)
            listed = bool(tool.allow) and tool.allows(tool.allow, arguments)
            facts = Facts(tool.danger, listed, sandbox=self._sandbox(tool))
            verdict = decide(self.modes, facts)
            if verdict.action == "ask" and decision is None:  # only then does a grant change anything
                granted = tool.allows(await self.grants.allowed(self.request.principal.id, tool.name), arguments)
                verdict = decide(self.modes, replace(facts, granted=granted))
            if verdict.action == "ask" and decision is None:
                decision = await self._ask(tool, call_id, given, arguments, verdict)
                if decision is None:
                    return None
            if verdict.action == "deny":
                return CallResult(f"Denied: {verdict.reason}", denied=True)
            if decision is not None and not decision.approved:
                return denied(decision)
            note = ""
            if decision is not None and decision.arguments is not None:
                given, note = decision.arguments, f"(The user has changed the arguments to {decision.arguments})\n"
                # The person's own arguments are checked like the model's.
                arguments = tool.check(given)
            if decision is not None and decision.always:
                await self._remember(tool, arguments, decision.pattern)
            # Told only now: a call that waits or is denied has not run.
            begin(given)
            return await self._run(tool, call_id, arguments, verdict, note)
        except ToolError as error:  # the arguments are wrong, the model's or those that somebody has changed
            return CallResult(str(error), is_error=True)

    def _sandbox(self, tool: AgentTool) -> Literal["none", "unfit", "ready"]:
        return "none" if self.sandbox is None else "ready" if tool.sandboxable else "unfit"

    async def _ask(
        self, tool: AgentTool, call_id: str, given: str, arguments: ToolArguments, verdict: Verdict
    ) -> Decision | None:
        if self.approver is None:
            return NOBODY
        request = self.request
        question = Question(
            call_id,
            tool.name,
            given,
            tool.danger,
            request.principal,
            request.conversation_id,
            verdict.sandboxed,
            None if tool.danger == "dangerous" else tool.always(arguments),
        )
        try:
            return await self.approver.decide(question, self.context)
        # An approver that fails has approved nothing.
        except Exception as error:
            with suppress(Exception):
                self.context.logger.error("%s: asking for approval failed", self.context.request_id, exc_info=error)
            return NOBODY

    async def _run(
        self, tool: AgentTool, call_id: str, arguments: ToolArguments, verdict: Verdict, note: str
    ) -> CallResult:
        sandbox = self.sandbox if verdict.sandboxed else None
        # Taken only now: a call that waits for a person holds no other one up.
        async with self.slots:
            outcome = await call_tool(tool, arguments, ToolContext(call_id, self.request, self.context, sandbox))
        return replace(outcome, text=note + outcome.text)

    async def _remember(self, tool: AgentTool, arguments: ToolArguments, pattern: str | None) -> None:
        """Allow it for always. A pattern that cannot be read, or means nothing for the tool, allows just this call."""
        # Dangerous calls are asked about each time, whatever the client sends with its answer.
        if tool.danger == "dangerous":
            return
        allow = tool.always(arguments)
        if pattern is not None:
            with suppress(ValueError):
                allow = tool.always(arguments, pattern)
        await self.grants.add(self.request.principal.id, tool.name, allow)


def denied(decision: Decision) -> CallResult:
    """A denial, as the model is told."""
    # Nobody has said no, so no user is to be named.
    if decision is NOBODY:
        return CallResult(f"Denied: {decision.reason}", denied=True)
    return CallResult(
        f"Denied by the user: {decision.reason}" if decision.reason else "Denied by the user.", denied=True
    )
