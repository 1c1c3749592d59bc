"""An agent that calls a model behind another OpenAI-compatible API, and passes on its text and its token usage.

Serve it:   OPENAI_API_KEY=... OPENAI_MODEL=... uvicorn openai_upstream:app          (and OPENAI_BASE_URL, if it is not OpenAI)
"""

import os

from openai import AsyncOpenAI

from openai_compat import Server, UsageReported
from openai_compat_adapters.starlette import create_app

upstream = AsyncOpenAI(max_retries=0)  # the client of this server decides about retries
INSTRUCTIONS = {"role": "system", "content": "Answer in one sentence."}


async def agent(messages: list):
    stream = await upstream.chat.completions.create(
        model=os.environ["OPENAI_MODEL"],
        messages=[INSTRUCTIONS, *messages],
        stream=True,
        stream_options={"include_usage": True},
    )
    async with stream:  # closed when the client disconnects, so that the model stops too
        async for chunk in stream:
            for choice in chunk.choices:
                yield choice.delta.content or ""
            if chunk.usage:
                yield UsageReported(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)


app = create_app(Server({"short": agent}))
