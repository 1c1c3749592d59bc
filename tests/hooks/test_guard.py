"""The guard example: it refuses on every API, and no client sees the content it holds back."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from openai_compat import Server
from tests.api.chat_websocket.client import chat, text, types
from tests.conftest import anyio_backend as anyio_backend
from tests.docs.served import EXAMPLES
from tests.requirements import requirement
from tests.support.hooked import HTTP_APIS, OWN_FORMS, ask, hooked_server

pytestmark = pytest.mark.anyio


def guarded() -> Server:
    spec = importlib.util.spec_from_file_location("guard", EXAMPLES / "guard.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return hooked_server(module.agent, wrap=[module.guarded])  # like the example's server, with every API


@requirement("guard.every")
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
@pytest.mark.parametrize("api", HTTP_APIS | OWN_FORMS)
async def test_text_that_may_not_pass_is_never_sent(api: str, stream: bool) -> None:
    made = await ask(guarded(), api, "hello", stream=stream)
    said = made.data.decode()
    assert made.status == 200
    assert "fine" in said
    assert "This is" not in said
    ends = {"chat_rest": "", "anthropic_messages": "refusal", "ollama": '"done":true'}
    assert ends.get(api, "content_filter") in said


@requirement("guard.every")
@pytest.mark.parametrize("api", HTTP_APIS | OWN_FORMS)
async def test_a_request_that_may_not_be_asked_is_a_400(api: str) -> None:
    refused = await ask(guarded(), api, "something Forbidden", stream=False)
    assert refused.status == 400
    assert api in OWN_FORMS or refused.error["code"] == "content_policy_violation"


@requirement("guard.every")
async def test_over_the_chat_websocket_too() -> None:
    async with chat(guarded()) as client:
        said = text(await client.ask("hello"))
        assert "That is fine." in said
        assert "This is" not in said
        assert types(await client.ask("forbidden"))[-1] == "error"
