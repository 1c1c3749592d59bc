"""The chat endpoint of Claude Ops: one session at a time, one prompt per session, tiers selected by model name.

Serve it:   CLAUDEOPS_CHAT_API_KEY=... uvicorn claude_ops:app          (`claude` must be installed and logged in)
"""

from openai_compat import Admission, AgentRequest, Disconnect, Limits, MessagePolicy, Server, key_from_env
from openai_compat.backends.subprocess import SubprocessBackend
from openai_compat_adapters.starlette import create_app

TIERS = {"claude-ops": "haiku", "claude-ops-tier1": "haiku", "claude-ops-tier2": "sonnet", "claude-ops-tier3": "opus"}
CLAUDE = ["claude", "-p", "--output-format", "stream-json", "--verbose"]


def command(request: AgentRequest) -> list[str]:
    return [*CLAUDE, "--model", TIERS.get(request.model, "haiku")]


session = SubprocessBackend(command, output="claude", pass_env=["ANTHROPIC_*", "CLAUDE_*"])
server = Server(
    dict.fromkeys(TIERS, session),
    keys=key_from_env("CLAUDEOPS_CHAT_API_KEY"),  # read for every request; if not set, 503 chat_endpoint_disabled
    public=["models"],
    limits=Limits(slots=1),
    admission=Admission(busy="I'm currently busy running a session. Please try again in a few minutes."),
    messages=MessagePolicy(history="last_user", system="ignore", user="required"),
    disconnect=Disconnect("finish"),
    unknown_model="default",
    owned_by="claude-ops",
)
app = create_app(server)
