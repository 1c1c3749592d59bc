"""Agents are the models."""

from __future__ import annotations

import json
import time

import openai
import pytest

from openai_compat import Capabilities, Server, as_backend
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
    listed = [{name: model[name] for name in ("id", "object", "created", "owned_by")} for model in body["data"]]
    assert body["object"] == "list"
    assert listed == [
        {"id": "zoe", "object": "model", "created": created, "owned_by": "me"},
        {"id": "adam", "object": "model", "created": created, "owned_by": "me"},
    ]


def researcher(prompt: str) -> str:
    """Looks things up.

    How it does so is for those who read its code.
    """
    return prompt


NOTHING = dict.fromkeys(
    ["chat", "embeddings", "decisions", "client_tools", "vision", "audio_input", "files", "structured_output"]
)
FOR_TEXT = {**dict.fromkeys(NOTHING, False), "chat": True, "approvals": "edit"}


@requirement("models.about")
@in_process
async def test_a_model_tells_what_it_is_for_and_what_a_request_to_it_may_have(connect: Connect) -> None:
    def embed(texts: list[str]) -> list[list[float]]:
        return [[1.0] for _ in texts]

    declared = as_backend(lambda request: "", capabilities=Capabilities(approvals="none", description="Signs letters."))
    agents = {"researcher": researcher, "clerk": declared, "quiet": lambda prompt: prompt}
    async with connect(agents, embeddings={"vectors": embed, "quiet": embed}) as client:
        found = {model.id: model.to_dict() async for model in await client.models.list()}
        alone = (await client.models.retrieve("researcher")).to_dict()

    assert alone == found["researcher"]
    told = {name: model.get("description") for name, model in found.items()}
    assert told == {"researcher": "Looks things up.", "clerk": "Signs letters.", "quiet": None, "vectors": None}
    assert found["researcher"]["capabilities"] == FOR_TEXT
    assert found["quiet"]["capabilities"] == {**FOR_TEXT, "embeddings": True}
    assert found["vectors"]["capabilities"] == {
        **FOR_TEXT,
        "chat": False,
        "embeddings": True,
        "approvals": "none",
    }
    whole = {"client_tools": True, "vision": True, "audio_input": True, "files": True, "structured_output": True}
    assert found["clerk"]["capabilities"] == {**FOR_TEXT, **whole, "approvals": "none"}


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
