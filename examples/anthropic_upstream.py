"""An agent that calls a Claude model, and passes on its text and its token usage.

Serve it:   ANTHROPIC_API_KEY=... ANTHROPIC_MODEL=... uvicorn anthropic_upstream:app
"""

import os

from anthropic import AsyncAnthropic

from openai_compat import Server, UsageReported
from openai_compat_adapters.starlette import create_app

upstream = AsyncAnthropic(max_retries=0)  # the client of this server decides about retries


async def agent(prompt: str):
    async with upstream.messages.stream(
        model=os.environ["ANTHROPIC_MODEL"],
        max_tokens=1024,
        messages=[{"role": "user", "content": prompt}],
    ) as stream:
        async for text in stream.text_stream:
            yield text
        usage = (await stream.get_final_message()).usage
    yield UsageReported(usage.input_tokens, usage.output_tokens)


app = create_app(Server({"claude": agent}))
