"""Agents below a prefix of a Litestar application with other routes.

Serve it:   uvicorn litestar_mount:app
"""

from contextlib import asynccontextmanager

from litestar import Litestar, asgi, get

from openai_compat import Server
from openai_compat_adapters.starlette import endpoint


async def agent(prompt: str):
    yield f"You said: {prompt}"


server = Server({"echo": agent})


@asynccontextmanager
async def lifespan(app: Litestar):
    async with server.lifespan():
        yield


@get("/")
async def index() -> dict[str, str]:
    return {"chat": "/ai/v1/chat/completions"}


agents = asgi("/ai", is_mount=True, copy_scope=True)(endpoint(server))
app = Litestar([index, agents], lifespan=[lifespan])
