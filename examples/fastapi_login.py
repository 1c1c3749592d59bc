"""Agents in a FastAPI application with its own login: each user is a separate caller with a separate history.

Serve it:   uvicorn fastapi_login:app
Log in:     curl -s -c jar -d '{"name": "ann", "password": "ann-pw"}' -H 'Content-Type: application/json' http://127.0.0.1:8000/login
Ask:        curl -s -b jar -d '{"model": "agent", "input": "Hi"}' -H 'Content-Type: application/json' http://127.0.0.1:8000/ai/v1/responses
"""

import secrets
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser
from starlette.middleware.authentication import AuthenticationMiddleware

from openai_compat import Server, from_scope
from openai_compat_adapters.starlette import endpoint

PASSWORDS = {"ann": "ann-pw", "bob": "bob-pw"}
SESSIONS: dict[str, "User"] = {}


class User(BaseUser):
    def __init__(self, name: str):
        self.name = name

    @property
    def is_authenticated(self) -> bool:
        return True


class Sessions(AuthenticationBackend):
    """Authenticates by session: a browser's cookie, or the API key of an OpenAI client."""

    async def authenticate(self, conn):
        bearer = conn.headers.get("authorization", "").removeprefix("Bearer ")
        user = SESSIONS.get(bearer or conn.cookies.get("session", ""))
        return (AuthCredentials(), user) if user else None


async def agent(request):
    return f"Hello, {request.principal.id}"


server = Server(agent, authenticate=from_scope(lambda user: user.name))


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with server.lifespan():
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(AuthenticationMiddleware, backend=Sessions())
app.mount("/ai", endpoint(server))


class Credentials(BaseModel):
    name: str
    password: str


@app.post("/login")
def login(sent: Credentials):
    if not secrets.compare_digest(PASSWORDS.get(sent.name, "").encode(), sent.password.encode()) or not sent.password:
        raise HTTPException(401)
    session = secrets.token_urlsafe()
    SESSIONS[session] = User(sent.name)
    answer = JSONResponse({"session": session})
    answer.set_cookie("session", session, httponly=True, samesite="lax")
    return answer
