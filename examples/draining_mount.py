"""Agents in a FastAPI application that drains on SIGUSR1, some seconds before SIGTERM stops it.

Serve it:   uvicorn draining_mount:app
Stop it:    kill -USR1 PID; sleep 10; kill PID
"""

import asyncio
import signal
from contextlib import asynccontextmanager

from fastapi import FastAPI

from openai_compat import Server
from openai_compat_adapters.starlette import endpoint


async def agent(prompt: str):
    for word in prompt.split():
        await asyncio.sleep(0.1)
        yield f"{word} "


server = Server({"echo": agent})


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with server.lifespan():
        # After SIGUSR1, /readyz is 503 and new turns are refused, while running turns continue.
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, server.draining)
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/ai", endpoint(server))
