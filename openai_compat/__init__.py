"""Any agent in, every OpenAI client out: serve what you have as the OpenAI API.

The public names are those in `__all__`, here and in `openai_compat.events`, `openai_compat.errors`,
`openai_compat.messages` and `openai_compat.http`.
"""

from .backend import (
    AgentBackend,
    AgentRequest,
    Capabilities,
    CustomTool,
    FunctionTool,
    Principal,
    Resume,
    RunContext,
    Sampling,
    ToolChoice,
)
from .callables import as_backend
from .errors import AgentError, OpenAICompatError
from .events import (
    AgentEvent,
    Citation,
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
from .policies.auth import key_from_env, key_from_file
from .policies.cors import Cors
from .policies.limits import Deadlines, Limits
from .server import Server
from .version import __version__ as __version__

__all__ = (
    "AgentBackend",
    "AgentError",
    "AgentEvent",
    "AgentRequest",
    "Capabilities",
    "Citation",
    "Cors",
    "CustomTool",
    "Deadlines",
    "Finished",
    "FunctionTool",
    "Limits",
    "MediaDelta",
    "MessageBreak",
    "Notice",
    "OpenAICompatError",
    "Paused",
    "PendingCall",
    "Principal",
    "Progress",
    "ReasoningDelta",
    "RefusalDelta",
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
    "UsageReported",
    "as_backend",
    "key_from_env",
    "key_from_file",
)
