"""Agents below a prefix of a FastAPI application with other routes.

Serve it:   uvicorn fastapi_mount:app
"""

from contextlib import asynccontextmanager

from fastapi import FastAPI

from openai_compat import Server
from openai_compat_adapters.starlette import endpoint


async def agent(prompt: str):
    yield f"You said: {prompt}"


server = Server({"echo": agent})


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with server.lifespan():
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/ai", endpoint(server))


@app.get("/")
def index():
    return {"chat": "/ai/v1/chat/completions"}
