"""Any agent in, every OpenAI client out: serve what you have as the OpenAI API.

The public names are those in `__all__`, here and in the modules that have one: `openai_compat.events`,
`openai_compat.errors`, `openai_compat.messages`, `openai_compat.http`, and packages that are imported separately, for
instance `openai_compat.tools`. docs/reference documents all of them; a module without `__all__` may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .package import __version__ as __version__

if TYPE_CHECKING:
    from .agent_request import (
        AgentRequest,
        CustomTool,
        Decision,
        FunctionTool,
        JsonSchema,
        Principal,
        Resume,
        Sampling,
        ToolChoice,
    )
    from .agents.adapt import as_backend
    from .agents.compaction import Compaction
    from .backend import AgentBackend, Capabilities, RunContext
    from .errors import AgentError, OpenAICompatError
    from .events import (
        AgentEvent,
        Citation,
        Compacted,
        Finished,
        MediaDelta,
        MessageBreak,
        Notice,
        Paused,
        PendingCall,
        Progress,
        ReasoningDelta,
        RefusalDelta,
        TextDelta,
        ToolCallDelta,
        ToolCallReady,
        ToolCallStarted,
        ToolResult,
        UsageReported,
    )
    from .policies.auth import ApiKeys
    from .policies.authenticators import first_of, from_header, from_scope, on_behalf, remote_user
    from .policies.budgets import Budget
    from .policies.chat_rest import ChatRest, ContextQuery
    from .policies.chat_websocket import ChatWebSocket
    from .policies.conversations import Conversations
    from .policies.cors import Cors
    from .policies.disconnect import Disconnect
    from .policies.hooks import Hooks, RefusalInfo, RequestInfo, RequestOutcome, TurnInfo, TurnOutcome, WebhookAttempt
    from .policies.housekeeping import Housekeeping
    from .policies.keys import key_from_env, key_from_file
    from .policies.limits import Deadlines, Limits
    from .policies.messages import MessagePolicy
    from .policies.rates import Rates
    from .policies.replay_failures import ReplayFailures
    from .policies.resource_metadata import ResourceMetadata
    from .server import Server
    from .state.webhooks import Webhooks
    from .stores.memory import MemoryStore
    from .turns.slots import Admission
    from .wire.decisions.questions import DecisionQuestion

__all__ = (
    "Admission",
    "AgentBackend",
    "AgentError",
    "AgentEvent",
    "AgentRequest",
    "ApiKeys",
    "Budget",
    "Capabilities",
    "ChatRest",
    "ChatWebSocket",
    "Citation",
    "Compacted",
    "Compaction",
    "ContextQuery",
    "Conversations",
    "Cors",
    "CustomTool",
    "Deadlines",
    "Decision",
    "DecisionQuestion",
    "Disconnect",
    "Finished",
    "FunctionTool",
    "Hooks",
    "Housekeeping",
    "JsonSchema",
    "Limits",
    "MediaDelta",
    "MemoryStore",
    "MessageBreak",
    "MessagePolicy",
    "Notice",
    "OpenAICompatError",
    "Paused",
    "PendingCall",
    "Principal",
    "Progress",
    "Rates",
    "ReasoningDelta",
    "RefusalDelta",
    "RefusalInfo",
    "ReplayFailures",
    "RequestInfo",
    "RequestOutcome",
    "ResourceMetadata",
    "Resume",
    "RunContext",
    "Sampling",
    "Server",
    "TextDelta",
    "ToolCallDelta",
    "ToolCallReady",
    "ToolCallStarted",
    "ToolChoice",
    "ToolResult",
    "TurnInfo",
    "TurnOutcome",
    "UsageReported",
    "WebhookAttempt",
    "Webhooks",
    "as_backend",
    "first_of",
    "from_header",
    "from_scope",
    "key_from_env",
    "key_from_file",
    "on_behalf",
    "remote_user",
)

_NAMES = {
    "agent_request": "AgentRequest CustomTool Decision FunctionTool JsonSchema Principal Resume Sampling ToolChoice",
    "agents.adapt": "as_backend",
    "agents.compaction": "Compaction",
    "backend": "AgentBackend Capabilities RunContext",
    "errors": "AgentError OpenAICompatError",
    "events": "AgentEvent Citation Compacted Finished MediaDelta MessageBreak Notice Paused PendingCall Progress ReasoningDelta RefusalDelta TextDelta ToolCallDelta ToolCallReady ToolCallStarted ToolResult UsageReported",
    "policies.auth": "ApiKeys",
    "policies.authenticators": "first_of from_header from_scope on_behalf remote_user",
    "policies.budgets": "Budget",
    "policies.chat_rest": "ChatRest ContextQuery",
    "policies.chat_websocket": "ChatWebSocket",
    "policies.conversations": "Conversations",
    "policies.cors": "Cors",
    "policies.disconnect": "Disconnect",
    "policies.hooks": "Hooks RefusalInfo RequestInfo RequestOutcome TurnInfo TurnOutcome WebhookAttempt",
    "policies.housekeeping": "Housekeeping",
    "policies.keys": "key_from_env key_from_file",
    "policies.limits": "Deadlines Limits",
    "policies.messages": "MessagePolicy",
    "policies.rates": "Rates",
    "policies.replay_failures": "ReplayFailures",
    "policies.resource_metadata": "ResourceMetadata",
    "server": "Server",
    "state.webhooks": "Webhooks",
    "stores.memory": "MemoryStore",
    "turns.slots": "Admission",
    "wire.decisions.questions": "DecisionQuestion",
}
"""Public names by module. A module is imported when one of its names is first used, since most programs need few of them."""

_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

if not TYPE_CHECKING:  # type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Import a public name or submodule on first use: `import openai_compat` is enough for `openai_compat.events`."""
        if name in _MODULES:
            value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
            return value
        if not name.startswith("_"):
            try:
                return import_module(f".{name}", __name__)
            except ModuleNotFoundError as error:
                if error.name != f"{__name__}.{name}":
                    raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
