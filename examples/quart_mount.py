"""Agents below a prefix of a Quart application with other routes.

Serve it:   hypercorn quart_mount:app
"""

from hypercorn.middleware import DispatcherMiddleware
from quart import Quart

from openai_compat import Server
from openai_compat_adapters.starlette import endpoint


async def agent(prompt: str):
    yield f"You said: {prompt}"


quart = Quart(__name__)


@quart.get("/")
async def index():
    return {"chat": "/ai/v1/chat/completions"}


app = DispatcherMiddleware({"/ai": endpoint(Server({"echo": agent})), "": quart})
