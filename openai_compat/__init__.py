"""Any agent in, every OpenAI client out: serve what you have as the OpenAI API.

What is public is in `__all__`, here and in the modules that have one: `openai_compat.events`, `openai_compat.errors`,
`openai_compat.messages`, `openai_compat.http`, and those of rooms that are imported by themselves, such as
`openai_compat.tools`. All of it is in docs/reference; a module without `__all__` may change.
"""

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
from .package import __version__ as __version__
from .policies.auth import ApiKeys
from .policies.authenticators import first_of, from_header, from_scope, on_behalf, remote_user
from .policies.budgets import Budget
from .policies.chat_rest import ChatRest, ContextQuery
from .policies.chat_websocket import ChatWebSocket
from .policies.conversations import Conversations
from .policies.cors import Cors
from .policies.disconnect import Disconnect
from .policies.failures import ReplayFailures
from .policies.hooks import Hooks, RequestInfo, RequestOutcome, TurnInfo, TurnOutcome
from .policies.housekeeping import Housekeeping
from .policies.keys import key_from_env, key_from_file
from .policies.limits import Deadlines, Limits
from .policies.messages import MessagePolicy
from .policies.rates import Rates
from .policies.resource import ResourceMetadata
from .server import Server
from .state.webhooks import Webhooks
from .stores.memory import MemoryStore
from .turns.slots import Admission

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
