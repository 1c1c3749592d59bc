"""Paths outside the API."""

from __future__ import annotations

import openai
import pytest

from openai_compat import Server
from tests.connecting import Http, in_process
from tests.requirements import requirement
from tests.support.agents import HELLO, Says

pytestmark = pytest.mark.anyio


@requirement("paths.bare")
async def test_clients_that_were_given_a_url_without_v1_are_served_where_that_is_wanted(http: Http) -> None:
    async with http(Says("Hi"), bare_paths=True) as inner:
        for path in ("", "/v1"):
            base_url = f"{inner.base_url}".rstrip("/") + path
            client = openai.AsyncOpenAI(base_url=base_url, api_key="any", http_client=inner, max_retries=0)
            answer = await client.chat.completions.create(model="agent", messages=HELLO)
            assert answer.choices[0].message.content == "Hi"
            assert (await client.models.retrieve("agent")).id == "agent"


@requirement("paths.bare")
@in_process
async def test_without_that_they_are_unknown(http: Http) -> None:
    async with http(Says("Hi")) as client:
        answers = [await client.get("/models"), await client.post("/chat/completions", json={}), await client.get("/")]
    assert [answer.json()["error"]["code"] for answer in answers] == ["unknown_url"] * 3


@requirement("paths.health")
async def test_a_load_balancer_needs_no_key(http: Http) -> None:
    server = Server(Says("Hi"), keys="secret")
    async with http(server) as client:
        alive, ready = await client.get("/healthz"), await client.get("/readyz")
        server.services.live.slots.closed = True
        draining = await client.get("/readyz")
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "running": 0, "store": "ok"})
    assert (draining.status_code, draining.json()["error"]["code"]) == (503, "shutting_down")
    assert draining.headers["retry-after"] == "5"
