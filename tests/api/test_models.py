"""Agents are the models."""

from __future__ import annotations

import json
import time

import openai
import pytest

from openai_compat import Server
from openai_compat_adapters.client import sync_openai
from tests.connecting import Connect, Http, in_process
from tests.requirements import requirement
from tests.support.agents import Says

pytestmark = pytest.mark.anyio


@requirement("models.list")
async def test_every_agent_is_a_model_in_the_order_they_were_given(http: Http) -> None:
    before = int(time.time())
    async with http({"zoe": Says("Hi"), "adam": Says("Hi")}, owned_by="me") as client:
        answer = await client.get("/v1/models")
    body = json.loads(answer.content)
    created = body["data"][0]["created"]
    assert before <= created <= time.time()
    assert body == {
        "object": "list",
        "data": [
            {"id": "zoe", "object": "model", "created": created, "owned_by": "me"},
            {"id": "adam", "object": "model", "created": created, "owned_by": "me"},
        ],
    }


@requirement("models.list")
@in_process
async def test_the_sdk_lists_models_and_one_agent_alone_is_called_agent(connect: Connect) -> None:
    async with connect(Says("Hi")) as client:
        assert [model.id async for model in await client.models.list()] == ["agent"]
    with sync_openai(Server(Says("Hi"))) as blocking:
        assert [model.id for model in blocking.models.list()] == ["agent"]


@requirement("models.get")
@pytest.mark.parametrize("name", ["agent", "team/writer:v2", "ein Name mit ö?", "a%2Fb", "../models"])
async def test_a_model_is_found_by_its_name(name: str, connect: Connect) -> None:
    async with connect({name: Says("Hi")}) as client:
        model = await client.models.retrieve(name)
    assert (model.id, model.object, model.owned_by) == (name, "model", "openai-compat")


@requirement("models.get")
async def test_an_unknown_model_is_not_found(connect: Connect) -> None:
    async with connect(Says("Hi")) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("other")
    assert caught.value.body == {
        "message": "The model 'other' does not exist",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


@requirement("models.get")
@in_process
async def test_a_model_is_not_deleted(connect: Connect) -> None:
    async with connect(Says("Hi")) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.models.delete("agent")
    assert caught.value.status_code == 405


@requirement("models.list")
@in_process
async def test_head_has_the_headers_of_get_without_its_body(http: Http) -> None:
    async with http(Says("Hi")) as client:
        got, headed = await client.get("/v1/models"), await client.head("/v1/models")
    assert (headed.status_code, headed.content) == (200, b"")
    assert headed.headers["content-length"] == got.headers["content-length"]
