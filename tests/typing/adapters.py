"""The adapters' return types fit where users put them. Checked by mypy and pyright, never run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
from __future__ import annotations

from typing import assert_type

import fastapi
import httpx2
import openai
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from openai_compat import Server
from openai_compat_adapters.client import async_openai, sync_openai
from openai_compat_adapters.starlette import create_app, endpoint
from openai_compat_adapters.transport import AsyncTransport, SyncTransport
from openai_compat_adapters.wsgi import create_wsgi_app


def agent(prompt: str) -> str:
    return prompt


server = Server(agent)

assert_type(create_app(server), Starlette)
uvicorn.Config(create_app(server))
uvicorn.Config(endpoint(server))
Starlette(routes=[Mount("/ai", endpoint(server))])
fastapi.FastAPI().mount("/ai", endpoint(server))
create_app(agent)  # type: ignore[arg-type]

create_wsgi_app(server)({}, lambda status, headers, exc_info=None: lambda data: None)

assert_type(async_openai(server), openai.AsyncOpenAI)
assert_type(sync_openai(server, max_retries=0), openai.OpenAI)
httpx2.AsyncClient(transport=AsyncTransport(server))
httpx2.Client(transport=SyncTransport(server))
httpx2.Client(transport=AsyncTransport(server))  # type: ignore[arg-type]
