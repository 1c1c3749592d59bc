"""The chat REST API on trio: everything that does not depend on asyncio runs there too."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx2
import pytest

from openai_compat import Disconnect
from openai_compat_adapters.transport import AsyncTransport
from tests.api.chat_rest.support import API, BOUGHT, BUYS, Shop, conversation, frames, serving, shopper

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


@pytest.mark.parametrize("background", [True, False])
async def test_questions_are_asked_and_decided(tmp_path: Path, background: bool) -> None:
    shop = Shop()
    server = serving(
        shopper(shop, *BUYS, *BOUGHT), store=f"sqlite:///{tmp_path}/state.db", disconnect=Disconnect("detach")
    )
    transport = AsyncTransport(server)
    async with server.lifespan(), httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        name = await conversation(client)
        told = frames(await client.post(f"{API}/conversations/{name}/messages/agentic", json={"content": "Buy"}))
        asked = next(frame["data"] for frame in told if frame["type"] == "approval:required")
        body = {"conversationId": name, "approvalId": asked["id"], "decision": "allow-once", "background": background}
        decided = await client.post(f"{API}/tools/approve", json=body)
        with anyio.fail_after(10):
            while True:
                found = (await client.get(f"{API}/conversations/{name}/messages")).json()["messages"]
                if found[-1]["content"].endswith("You have bread now."):
                    break
                await anyio.lowlevel.checkpoint()
    assert decided.status_code == (202 if background else 200)
    assert shop.did == ["buy 1 bread"]
