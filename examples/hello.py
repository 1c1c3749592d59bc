from openai_compat import Server
from openai_compat_adapters.starlette import create_app


async def agent(prompt: str):
    yield "Hello, "
    yield prompt


app = create_app(Server({"hello": agent}))
