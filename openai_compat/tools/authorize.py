"""Authorization of one call: run it, deny it, or wait for a decision in a later request."""

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

UNKNOWN_TOOL = CallResult("There is no tool of that name.", is_error=True)
NO_APPROVER = Decision(approved=False, reason="It needs approval, and there is nobody to ask.")
MAX_CONCURRENT = 16
"""Maximum number of calls of one turn that run at the same time; the others wait."""


@dataclass(frozen=True, slots=True)
class CallAuthorizer:
    """Authorizes the calls of one turn, and runs those that are allowed."""

    tools: Mapping[str, AgentTool]
    modes: frozenset[SecurityMode]
    grants: Grants
    approver: Approver | None
    sandbox: Sandbox | None
    request: AgentRequest
    context: RunContext
    slots: anyio.Semaphore

    def surely_runs(self, name: str) -> bool:
        """True if all calls of this tool run, whatever their arguments."""
        tool = self.tools.get(name)
        return (
            tool is not None
            and decide(self.modes, Facts(tool.danger, sandbox=self._sandbox_fitness(tool))).action == "run"
        )

    async def resolve(
        self, call_id: str, name: str, given: str, decision: Decision | None, before_run: Callable[[str], None]
    ) -> CallResult | None:
        """Authorize and run a call; return None if it waits for a decision. `decision` is an earlier decision, if any.

        `before_run` is called just before the call runs, with the arguments, which the person may have changed.
        """
        tool = self.tools.get(name)
        if tool is None:
            return UNKNOWN_TOOL
        try:
            # Checked before anyone is asked: a person should not approve a call that cannot run.
            arguments = tool.check(given)
            listed = bool(tool.allow) and tool.allows(tool.allow, arguments)
            facts = Facts(tool.danger, listed, sandbox=self._sandbox_fitness(tool))
            verdict = decide(self.modes, facts)
            if verdict.action == "ask" and decision is None:  # only then can a grant change anything
                granted = tool.allows(await self.grants.allowed(self.request.principal.id, tool.name), arguments)
                verdict = decide(self.modes, replace(facts, granted=granted))
            if verdict.action == "ask" and decision is None:
                decision = await self._ask_approver(tool, call_id, given, arguments, verdict)
                if decision is None:
                    return None
            if verdict.action == "deny":
                return CallResult(f"Denied: {verdict.reason}", denied=True)
            if decision is not None and not decision.approved:
                return denial(decision)
            note = ""
            if decision is not None and decision.arguments is not None:
                given, note = decision.arguments, f"(The user has changed the arguments to {decision.arguments})\n"
                # A person's arguments are checked like the model's.
                arguments = tool.check(given)
            if decision is not None and decision.always:
                await self._store_grant(tool, arguments, decision.pattern)
            # Reported only now: a call that waits or is denied has not run.
            before_run(given)
            return await self._run_tool(tool, call_id, arguments, verdict, note)
        except ToolError as error:  # invalid arguments, from the model or the person
            return CallResult(str(error), is_error=True)

    def _sandbox_fitness(self, tool: AgentTool) -> Literal["none", "unfit", "ready"]:
        return "none" if self.sandbox is None else "ready" if tool.sandboxable else "unfit"

    async def _ask_approver(
        self, tool: AgentTool, call_id: str, given: str, arguments: ToolArguments, verdict: Verdict
    ) -> Decision | None:
        if self.approver is None:
            return NO_APPROVER
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
        # An approver that fails has not approved.
        except Exception as error:
            with suppress(Exception):
                self.context.logger.error("%s: asking for approval failed", self.context.request_id, exc_info=error)
            return NO_APPROVER

    async def _run_tool(
        self, tool: AgentTool, call_id: str, arguments: ToolArguments, verdict: Verdict, note: str
    ) -> CallResult:
        sandbox = self.sandbox if verdict.sandboxed else None
        # Acquired only now: a call that waits for a person must not hold up others.
        async with self.slots:
            outcome = await call_tool(tool, arguments, ToolContext(call_id, self.request, self.context, sandbox))
        return replace(outcome, text=note + outcome.text)

    async def _store_grant(self, tool: AgentTool, arguments: ToolArguments, pattern: str | None) -> None:
        """Store an always-allow grant. A pattern that is invalid, or does not apply to the tool, grants just this call."""
        # Dangerous calls always need approval, whatever the client sends.
        if tool.danger == "dangerous":
            return
        allow = tool.always(arguments)
        if pattern is not None:
            with suppress(ValueError):
                allow = tool.always(arguments, pattern)
        await self.grants.add(self.request.principal.id, tool.name, allow)


def denial(decision: Decision) -> CallResult:
    """Return a denial, as the model sees it."""
    # No person has denied it, so the text names no user.
    if decision is NO_APPROVER:
        return CallResult(f"Denied: {decision.reason}", denied=True)
    return CallResult(
        f"Denied by the user: {decision.reason}" if decision.reason else "Denied by the user.", denied=True
    )
