"""Claude Code as a model: one process per turn, tools and reasoning shown, the process ended when the client disconnects.

Serve it:   OPS_API_KEY=... uvicorn cli_agent:app          (`claude` must be installed and logged in)
"""

import re

from openai_compat import AgentRequest, Limits, Server, key_from_env
from openai_compat.backends.subprocess import SubprocessBackend
from openai_compat_adapters.starlette import create_app

TIERS = {"ops": "haiku", "ops-tier2": "sonnet", "ops-tier3": "opus"}
CLAUDE = ["claude", "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"]


def command(request: AgentRequest) -> list[str]:
    return [*CLAUDE, "--model", TIERS[request.model]]


def redact(text: str) -> str:
    return re.sub(r"\bsk-[\w-]{8,}", "[key]", text)


ops = SubprocessBackend(
    command,
    output="claude",
    pass_env=[
        "ANTHROPIC_*",
        "CLAUDE_*",
    ],  # the only other variables it gets from the server are PATH, HOME and the like
    redact=redact,
)
app = create_app(Server(dict.fromkeys(TIERS, ops), keys=key_from_env("OPS_API_KEY"), limits=Limits(slots=4)))
