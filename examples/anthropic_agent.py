"""A Claude model for every OpenAI client: pictures, documents, tools and reasoning in both directions.

Serve it:   ANTHROPIC_API_KEY=... ANTHROPIC_MODEL=... uvicorn anthropic_agent:app
"""

import os

from openai_compat import Server
from openai_compat.backends.anthropic import AnthropicBackend
from openai_compat_adapters.starlette import create_app

claude = AnthropicBackend(
    os.environ["ANTHROPIC_MODEL"],
    system="You are the assistant of a small bookshop.",
    extra={"thinking": {"type": "adaptive"}},
    max_retries=0,  # the client of this server decides about retries
)
app = create_app(Server({"claude": claude}))
