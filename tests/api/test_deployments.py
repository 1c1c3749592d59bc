"""Azure's clients: the key in their own header, and the model in the path."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from openai_compat import Server
from tests.connecting import Http
from tests.requirements import requirement
from tests.support.agents import HELLO

pytestmark = pytest.mark.anyio


def server() -> Server:
    return Server(
        {"greeter": lambda prompt: f"Hello, {prompt}", "a/b": lambda prompt: f"Bye, {prompt}"},
        keys="secret",
        embeddings={"small": lambda texts: [[1.0] for _ in texts]},
    )


@requirement("paths.azure")
@pytest.mark.parametrize("below", ["", "/v1"])
async def test_the_sdks_azure_client_finds_all_it_asks_for(http: Http, below: str) -> None:
    async with http(server()) as inner:
        base = f"{inner.base_url}".rstrip("/")
        address: dict[str, Any] = {"base_url": base + below} if below else {"azure_endpoint": base}
        client = openai.AsyncAzureOpenAI(
            **address, api_key="secret", api_version="2024-10-21", http_client=inner, max_retries=0
        )
        plain = await client.chat.completions.create(model="greeter", messages=HELLO)
        assert plain.choices[0].message.content == "Hello, Hello"
        slashed = await client.chat.completions.create(model="a/b", messages=HELLO, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in slashed if chunk.choices]
        assert "".join(pieces) == "Bye, Hello"
        assert (await client.completions.create(model="greeter", prompt="Ada")).choices[0].text == "Hello, Ada"
        assert (await client.embeddings.create(model="small", input=["a"])).data[0].embedding == [1.0]
        assert (await client.responses.create(model="greeter", input="Ada")).output_text == "Hello, Ada"
        assert [model.id async for model in client.models.list()] == ["greeter", "a/b", "small"]
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="other", messages=HELLO)
        assert missing.value.code == "model_not_found"


@requirement("paths.azure")
async def test_a_client_with_a_deployment_of_its_own_asks_below_it(http: Http) -> None:
    async with http(server()) as inner:
        client = openai.AsyncAzureOpenAI(
            azure_endpoint=f"{inner.base_url}",
            azure_deployment="greeter",
            api_key="secret",
            api_version="2024-10-21",
            http_client=inner,
        )
        answer = await client.chat.completions.create(model="anything", messages=HELLO)
        assert (answer.model, answer.choices[0].message.content) == ("greeter", "Hello, Hello")


@requirement("paths.azure")
async def test_the_model_in_the_path_counts_and_the_body_needs_none(http: Http) -> None:
    path = "/openai/deployments/greeter/chat/completions?api-version=2024-10-21"
    async with http(server()) as client:
        for body in ({"messages": HELLO}, {"messages": HELLO, "model": "a/b"}):
            answer = await client.post(path, json=body, headers={"api-key": "secret"})
            assert answer.json()["choices"][0]["message"]["content"] == "Hello, Hello"
        wrong = await client.post(path, json={"messages": HELLO}, headers={"api-key": "wrong"})
        bad = await client.post(path, content=b"[", headers={"api-key": "secret"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    assert bad.status_code == 400
