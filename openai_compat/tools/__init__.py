"""Tools that an agent runs itself: their definitions, their permissions, and the loop that lets a model call them.

@tool(danger="safe")
def weather(city: str) -> str:
    ...

agent = ToolLoop(OpenAIBackend("gpt-5.2"), [weather, command_tool("git", "Runs git.", prefix=["git"])])
"""

from .approvals import Approver, AskLater, Grants, MemoryGrants, Question, call_digest
from .call_tool import CallResult
from .command import command_tool
from .loop import ToolLoop
from .mcp import MCPServer
from .modes import MODES, Danger, Facts, Modes, SecurityMode, Verdict, decide
from .patterns import Allow, ArgvPattern, ExactArguments, allow_from_json, allow_to_json, parse_allow
from .registry import AgentTool, Toolbox, ToolContext, ToolSource, as_tool, tool
from .sandbox import Bubblewrap, Command, Sandbox
from .tool_error import ToolError

__all__ = (
    "MODES",
    "AgentTool",
    "Allow",
    "Approver",
    "ArgvPattern",
    "AskLater",
    "Bubblewrap",
    "CallResult",
    "Command",
    "Danger",
    "ExactArguments",
    "Facts",
    "Grants",
    "MCPServer",
    "MemoryGrants",
    "Modes",
    "Question",
    "Sandbox",
    "SecurityMode",
    "ToolContext",
    "ToolError",
    "ToolLoop",
    "ToolSource",
    "Toolbox",
    "Verdict",
    "allow_from_json",
    "allow_to_json",
    "as_tool",
    "call_digest",
    "command_tool",
    "decide",
    "parse_allow",
    "tool",
)
