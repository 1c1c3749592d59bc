"""Provider settings that an admin changes: stored for all servers that share the store, without keys in plain text."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from openai_compat import ChatRest, Server
from openai_compat.providers import Providers
from openai_compat.providers.port import ProviderSettings
from openai_compat.state.sealed_secrets import VARIABLE, CannotUnseal, Seal
from openai_compat.stores.schema import UnusableStore
from tests.requirements import requirement
from tests.support.exchanges import answer, request

pytestmark = pytest.mark.anyio

KEY, OTHER = [base64.b64encode(bytes([number] * 32)).decode() for number in (1, 2)]
SECRET = "sk-nobody-may-read-this"


class Place:
    """Servers that share a store, each with its own providers."""

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def servers(self, number: int) -> AsyncIterator[list[tuple[Server, Providers]]]:
        async with AsyncExitStack() as stack:
            made: list[tuple[Server, Providers]] = []
            for _ in range(number):
                providers = Providers({"groq": ProviderSettings(api_key="sk-of-the-start", default_model="a")})
                server = Server(
                    lambda prompt: prompt,
                    store=self._url,
                    providers=providers,
                    chat_rest=ChatRest(admins=frozenset(["anonymous"])),
                )
                await stack.enter_async_context(server.lifespan())
                made.append((server, providers))
            yield made


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"sqlite:///{tmp_path / 'state.db'}")


async def configure(server: Server, path: str, **body: Any) -> tuple[int, str]:
    sent = await answer(server, request(f"/api/chat/providers/{path}", body))
    return sent.status, "" if sent.status == 200 else sent.error["code"]


async def becomes(providers: Providers, name: str, **fields: Any) -> None:
    with anyio.fail_after(10):
        while any([getattr(providers.settings(name), field) != value for field, value in fields.items()]):
            await anyio.sleep(0.02)


@requirement("providers.stored")
async def test_what_is_changed_at_one_server_is_so_at_all_and_after_a_restart_and_the_key_is_sealed(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    changed = {"api_key": SECRET, "base_url": "https://proxy.example/v1", "default_model": "b", "enabled": True}
    async with place.servers(2) as ((first, own), (second, others)):
        sent = {"apiKey": SECRET, "baseUrl": "https://proxy.example/v1"}
        assert await configure(first, "groq/configure", **sent) == (200, "")
        assert await configure(first, "groq/configure", defaultModel="b") == (200, "")
        assert own.settings("groq").api_key == SECRET
        await becomes(others, "groq", **changed)
        assert await configure(second, "default", provider="ollama") == (200, "")
        with anyio.fail_after(10):
            while own.default != "ollama":
                await anyio.sleep(0.02)
    async with place.servers(1) as ((_, later),):
        await becomes(later, "groq", **changed)
        assert later.default == "ollama"
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes()


@requirement("providers.stored")
async def test_without_a_key_to_seal_with_settings_are_kept_and_keys_are_refused(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    async with place.servers(2) as ((first, own), (_, others)):
        assert await configure(first, "groq/configure", apiKey=SECRET, defaultModel="b") == (409, "secrets_not_stored")
        assert own.settings("groq") == ProviderSettings(api_key="sk-of-the-start", default_model="a")
        assert await configure(first, "groq/configure", enabled=False) == (200, "")
        await becomes(others, "groq", enabled=False, default_model="a", api_key="sk-of-the-start")
    for file in tmp_path.iterdir():
        data = file.read_bytes()
        assert SECRET.encode() not in data
        assert b"sk-of-the-start" not in data


@requirement("providers.stored")
@pytest.mark.parametrize("then", [OTHER, None])
async def test_a_server_with_another_key_does_not_start_and_says_why(
    place: Place, monkeypatch: pytest.MonkeyPatch, then: str | None
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    async with place.servers(1) as ((server, _),):
        assert await configure(server, "groq/configure", apiKey=SECRET) == (200, "")
    if then is None:
        monkeypatch.delenv(VARIABLE)
    else:
        monkeypatch.setenv(VARIABLE, then)
    with pytest.raises(UnusableStore, match=VARIABLE):
        async with place.servers(1):
            pass
    monkeypatch.setenv(VARIABLE, f"{OTHER} {KEY}")  # while it is being changed, both exist
    async with place.servers(1) as ((_, providers),):
        await becomes(providers, "groq", api_key=SECRET)


@requirement("providers.stored")
@pytest.mark.parametrize("wrong", ["short", base64.b64encode(b"x" * 31).decode(), "*" * 44])
def test_a_key_that_is_none_is_refused_when_the_server_is_made_and_not_quoted(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv(VARIABLE, wrong)
    with pytest.raises(ValueError, match="openssl rand -base64 32") as refused:
        Server(lambda prompt: prompt, store=f"sqlite:///{tmp_path / 'state.db'}", providers=Providers())
    assert wrong not in str(refused.value)


def test_what_is_sealed_for_one_provider_is_of_no_use_for_another() -> None:
    seal = Seal([b"k" * 32])
    sealed = seal.seal(SECRET, "groq")
    assert seal.unseal(sealed, "groq") == SECRET
    assert sealed != seal.seal(SECRET, "groq")
    with pytest.raises(CannotUnseal):
        seal.unseal(sealed, "openai")
