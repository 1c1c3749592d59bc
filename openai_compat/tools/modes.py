"""Security modes: whether a call of a tool runs, is asked about, or is denied.

    mode        safe tool   risky tool                          dangerous tool
    deny        denied      denied                              denied
    sandbox     runs        runs in the sandbox, else denied    runs in the sandbox, else denied
    allowlist   runs        runs if it is listed, else asked    asked
    ask         runs        asked                               asked
    full        runs        runs                                runs

"Listed" are calls that the tool's own allow-list names. A call that the user has allowed for always is not asked about
again in any mode, unless the tool is dangerous. Without a sandbox, the mode "sandbox" denies everything;
with one, a safe tool that cannot run there runs outside.

Several modes may hold for a call: the server's, and one that the request asks for. The strictest outcome wins, so a
mode that is added can only tighten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from ..agent_request import AgentRequest
from ..errors import InvalidRequest

SecurityMode: TypeAlias = Literal["deny", "sandbox", "allowlist", "ask", "full"]
"""What an agent's tools may do without a question."""

Danger: TypeAlias = Literal["safe", "risky", "dangerous"]
"""What a tool can do: nothing that anybody would mind; what people may want to see first; what they always must."""

MODES: tuple[SecurityMode, ...] = get_args(SecurityMode)
DANGERS: tuple[Danger, ...] = get_args(Danger)
FIELD = "security_mode"
"""The field of a request that asks for a mode, which can only tighten."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about a call that a decision needs.

    Attributes:
        danger: the tool's.
        listed: the tool's own allow-list names the call.
        granted: the user has allowed it for always.
        sandbox: whether there is a sandbox, and the tool can run in it.
    """

    danger: Danger
    listed: bool = False
    granted: bool = False
    sandbox: Literal["none", "unfit", "ready"] = "none"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about a call; `sandboxed` if it may run nowhere else, `reason` why it is denied."""

    action: Literal["deny", "ask", "run"]
    sandboxed: bool = False
    reason: str = ""


RUN, ASK = Verdict("run"), Verdict("ask")
OFF = Verdict("deny", reason="Tools may not be used here.")
NO_SANDBOX = Verdict("deny", reason="Tools may be used in a sandbox only, and there is none.")
UNFIT = Verdict("deny", reason="Tools may be used in a sandbox only, and this one cannot run there.")
STRICTEST_FIRST = ("deny", "ask", "run")


def decide(modes: Iterable[SecurityMode], facts: Facts) -> Verdict:
    """The strictest of what the modes say; a sandbox if any of them wants one. Raises ValueError for no mode at all."""
    verdicts = [_VERDICTS[mode](facts) for mode in modes]
    # Several modes may hold, and none may loosen another: the strictest answer wins.
    first = min(verdicts, key=lambda verdict: STRICTEST_FIRST.index(verdict.action))
    return Verdict(first.action, any([verdict.sandboxed for verdict in verdicts]), first.reason)


def _sandbox(facts: Facts) -> Verdict:
    if facts.sandbox == "none":
        return NO_SANDBOX
    if facts.sandbox == "ready":
        return Verdict("run", sandboxed=True)
    return RUN if facts.danger == "safe" else UNFIT


def _ask(facts: Facts) -> Verdict:
    return RUN if facts.danger == "safe" or (facts.granted and facts.danger != "dangerous") else ASK


_VERDICTS: Mapping[SecurityMode, Callable[[Facts], Verdict]] = {
    "deny": lambda _: OFF,
    "sandbox": _sandbox,
    "allowlist": lambda facts: RUN if facts.listed and facts.danger != "dangerous" else _ask(facts),
    "ask": _ask,
    "full": lambda _: RUN,
}


@dataclass(frozen=True, slots=True)
class Modes:
    """Which modes hold for a request.

    The agent's and the principal's go before the server's; where both are set, both hold. What the request asks for
    in `security_mode` holds besides. Raises ValueError for a mode that does not exist.

    Attributes:
        server: where nothing else is set.
        agent: for this agent.
        principals: by the principal's id.
    """

    server: SecurityMode = "ask"
    agent: SecurityMode | None = None
    principals: Mapping[str, SecurityMode] = field(default_factory=dict[str, SecurityMode])

    def __post_init__(self) -> None:
        for mode in (self.server, self.agent or "ask", *self.principals.values()):
            if mode not in MODES:
                raise ValueError(f"a security mode is one of {', '.join(MODES)}, not {mode!r}")

    def of(self, request: AgentRequest) -> frozenset[SecurityMode]:
        """The modes for a request. Raises InvalidRequest if it asks for one that does not exist."""
        set_here = (self.agent, self.principals.get(request.principal.id))
        own: set[SecurityMode] = {mode for mode in set_here if mode is not None}
        # A request can only add a mode: it tightens, and never loosens.
        return frozenset[SecurityMode](own or {self.server}) | _wanted(request)


def _wanted(request: AgentRequest) -> frozenset[SecurityMode]:
    mode = request.extra.get(FIELD)
    if mode is None:
        return frozenset()
    if mode not in MODES:
        raise InvalidRequest(f"'{FIELD}' is one of {', '.join(MODES)}.", param=FIELD, code="invalid_value")
    return frozenset({mode})
