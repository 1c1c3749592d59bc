"""Security modes: whether a tool call runs, needs approval, or is denied.

    mode        safe tool   risky tool                          dangerous tool
    deny        denied      denied                              denied
    sandbox     runs        runs in the sandbox, else denied    runs in the sandbox, else denied
    allowlist   runs        runs if it is listed, else asked    asked
    ask         runs        asked                               asked
    full        runs        runs                                runs

"Listed" are calls on the tool's own allow-list. A call that the user has allowed always is not asked about again in any
mode, unless the tool is dangerous. Without a sandbox, the mode "sandbox" denies everything; with a sandbox, a safe tool
that cannot run there runs outside.

Several modes may apply to a call: the server's, and one that the request asks for. The strictest outcome wins, so an
added mode can only restrict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from ..agent_request import AgentRequest
from ..errors import InvalidRequest

SecurityMode: TypeAlias = Literal["deny", "sandbox", "allowlist", "ask", "full"]
"""A security mode; see the table above."""

Danger: TypeAlias = Literal["safe", "risky", "dangerous"]
"""The danger of a tool: "safe" is harmless, "risky" calls may need approval, "dangerous" calls do: see the table above."""

MODES: tuple[SecurityMode, ...] = get_args(SecurityMode)
DANGERS: tuple[Danger, ...] = get_args(Danger)
MODE_FIELD = "security_mode"
"""The request field for a security mode, which can only restrict."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about a call that a decision needs.

    Attributes:
        danger: danger of the tool.
        listed: True if the tool's own allow-list contains the call.
        granted: True if the user has allowed the call always.
        sandbox: "none" without a sandbox, "unfit" if the tool cannot run in it, "ready" if it can.
    """

    danger: Danger
    listed: bool = False
    granted: bool = False
    sandbox: Literal["none", "unfit", "ready"] = "none"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a call; `sandboxed` if it may only run in the sandbox, `reason` for a denial."""

    action: Literal["deny", "ask", "run"]
    sandboxed: bool = False
    reason: str = ""


RUN, ASK = Verdict("run"), Verdict("ask")
OFF = Verdict("deny", reason="Tools may not be used here.")
NO_SANDBOX = Verdict("deny", reason="Tools may be used in a sandbox only, and there is none.")
UNFIT = Verdict("deny", reason="Tools may be used in a sandbox only, and this one cannot run there.")
STRICTEST_FIRST = ("deny", "ask", "run")


def decide(modes: Iterable[SecurityMode], facts: Facts) -> Verdict:
    """Return the strictest verdict of the modes, sandboxed if any mode requires it. Raises ValueError without a mode."""
    verdicts = [_VERDICTS[mode](facts) for mode in modes]
    # Several modes may apply, and none may loosen another: the strictest verdict wins.
    first = min(verdicts, key=lambda verdict: STRICTEST_FIRST.index(verdict.action))
    return Verdict(first.action, any([verdict.sandboxed for verdict in verdicts]), first.reason)


def _decide_in_sandbox(facts: Facts) -> Verdict:
    if facts.sandbox == "none":
        return NO_SANDBOX
    if facts.sandbox == "ready":
        return Verdict("run", sandboxed=True)
    return RUN if facts.danger == "safe" else UNFIT


def _decide_by_asking(facts: Facts) -> Verdict:
    return RUN if facts.danger == "safe" or (facts.granted and facts.danger != "dangerous") else ASK


_VERDICTS: Mapping[SecurityMode, Callable[[Facts], Verdict]] = {
    "deny": lambda _: OFF,
    "sandbox": _decide_in_sandbox,
    "allowlist": lambda facts: RUN if facts.listed and facts.danger != "dangerous" else _decide_by_asking(facts),
    "ask": _decide_by_asking,
    "full": lambda _: RUN,
}


@dataclass(frozen=True, slots=True)
class Modes:
    """The security modes of a server, its agents and principals.

    Modes of the agent and of the principal replace the server's; if both are set, both apply. A request's `security_mode`
    applies in addition. Raises ValueError for an unknown mode.

    Attributes:
        server: the mode if nothing else is set.
        agent: the mode for this agent.
        principals: modes by principal id.
    """

    server: SecurityMode = "ask"
    agent: SecurityMode | None = None
    principals: Mapping[str, SecurityMode] = field(default_factory=dict[str, SecurityMode])

    def __post_init__(self) -> None:
        for mode in (self.server, self.agent or "ask", *self.principals.values()):
            if mode not in MODES:
                raise ValueError(f"a security mode is one of {', '.join(MODES)}, not {mode!r}")

    def of(self, request: AgentRequest) -> frozenset[SecurityMode]:
        """Return the modes for a request. Raises InvalidRequest if it asks for an unknown mode."""
        set_here = (self.agent, self.principals.get(request.principal.id))
        own: set[SecurityMode] = {mode for mode in set_here if mode is not None}
        # A request can only add a mode, which restricts and never loosens.
        return frozenset[SecurityMode](own or {self.server}) | _requested_modes(request)


def _requested_modes(request: AgentRequest) -> frozenset[SecurityMode]:
    mode = request.extra.get(MODE_FIELD)
    if mode is None:
        return frozenset()
    if mode not in MODES:
        raise InvalidRequest(f"'{MODE_FIELD}' is one of {', '.join(MODES)}.", param=MODE_FIELD, code="invalid_value")
    return frozenset({mode})
