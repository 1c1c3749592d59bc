"""What there is to talk to: models, providers and tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from openai_compat import ChatApi, Principal
from openai_compat.errors import NotFound
from openai_compat.provider import Health, Settings
from tests.interaction.conftest import Http, in_process
from tests.interaction.requirements import requirement

from .support import API, BUYS, Shop, error_of, serving, shopper

pytestmark = [pytest.mark.anyio, in_process]


async def echo(prompt: str) -> str:
    return prompt


class Cupboard:
    """Providers whose settings can be looked at from outside."""

    def __init__(self) -> None:
        self.default: str | None = "anthropic"
        self.kept = {"anthropic": Settings(api_key="sk-ant"), "ollama": Settings()}
        self.looked = 0

    @property
    def configured(self) -> Sequence[str]:
        return list(self.kept)

    @property
    def aliases(self) -> Mapping[str, str]:
        return {"fast": "ollama/llama4"}

    def set_default(self, name: str) -> None:
        self.settings(name)
        self.default = name

    def settings(self, name: str) -> Settings:
        if name not in self.kept:
            raise NotFound("No provider has this name.", code="provider_not_found", param="provider")
        return self.kept[name]

    def configure(self, name: str, settings: Settings) -> None:
        self.kept[name] = settings

    async def health(self, *, fresh: bool = False) -> Mapping[str, Health]:
        return {name: await self.health_of(name) for name in self.kept}

    async def health_of(self, name: str, *, fresh: bool = False) -> Health:
        self.settings(name)
        self.looked += fresh
        return Health(name == "anthropic", "It answers." if name == "anthropic" else "Nobody there.", 12)

    async def models(self, name: str) -> Sequence[str]:
        self.settings(name)
        return [f"{name}-large"]


async def test_without_providers_the_served_agents_are_one_providers(http: Http) -> None:
    async with http(serving({"a": echo, "b": echo})) as client:
        models = (await client.get(f"{API}/models")).json()
        providers = (await client.get(f"{API}/providers")).json()
        own = (await client.get(f"{API}/providers/openai-compat/models")).json()
        health = (await client.post(f"{API}/providers/openai-compat/health")).json()
        unknown = await client.get(f"{API}/models?provider=nobody")
        unknown_health = await client.post(f"{API}/providers/nobody/health")

    found = [{"id": name, "name": name, "provider": "openai-compat"} for name in ("a", "b")]
    assert models == {"models": found, "aliases": []}
    assert own == {"models": found}
    served = {"healthy": True, "message": "Served here.", "latencyMs": 0}
    assert providers == {
        "default": "openai-compat",
        "providers": [{"type": "openai-compat", "enabled": True, **served}],
    }
    assert health == {"provider": "openai-compat", **served}
    assert error_of(unknown) == (404, "provider_not_found", "provider")
    assert error_of(unknown_health) == (404, "provider_not_found", "provider")


async def test_providers_are_told_with_their_health_and_models(http: Http) -> None:
    cupboard = Cupboard()
    agents = {"anthropic/claude": echo, "own": echo}
    async with http(serving(agents, providers=cupboard)) as client:
        providers = (await client.get(f"{API}/providers")).json()
        models = (await client.get(f"{API}/models?provider=anthropic")).json()
        everything = (await client.get(f"{API}/models")).json()
        offered = (await client.get(f"{API}/providers/ollama/models")).json()
        health = (await client.post(f"{API}/providers/ollama/health")).json()
        asked = (await client.post(f"{API}/quick", json={"prompt": "Hi", "provider": "anthropic"})).json()
        nobody = await client.post(f"{API}/quick", json={"prompt": "Hi", "provider": "ollama"})
        named = {"prompt": "Hi", "provider": "anthropic", "model": "claude"}
        together = (await client.post(f"{API}/quick", json=named)).json()

    assert error_of(nobody) == (404, "model_not_found", "provider")
    assert providers["default"] == "anthropic"
    assert [(one["type"], one["healthy"]) for one in providers["providers"]] == [
        ("anthropic", True),
        ("ollama", False),
        ("openai-compat", True),
    ]
    assert [one["id"] for one in models["models"]] == ["anthropic/claude"]
    assert [one["provider"] for one in everything["models"]] == ["anthropic", "openai-compat"]
    assert everything["aliases"] == [{"alias": "fast", "provider": "ollama", "model": "llama4"}]
    assert [one["id"] for one in offered["models"]] == ["ollama-large"]
    assert (health["healthy"], cupboard.looked) == (False, 1)
    assert (asked["provider"], asked["model"], together["model"]) == (
        "anthropic",
        "anthropic/claude",
        "anthropic/claude",
    )


@requirement("chat_api.providers")
async def test_only_admins_change_providers_and_keys_never_come_back(http: Http) -> None:
    cupboard = Cupboard()
    keys = {"a": Principal("admin"), "u": Principal("user")}
    server = serving(echo, providers=cupboard, keys=keys, chat_api=ChatApi(admins=frozenset(["admin"])))
    change = {"apiKey": "sk-new-secret", "baseUrl": "https://proxy.example/v1", "defaultModel": "m"}
    async with http(server) as client:
        client.headers["authorization"] = "Bearer u"
        refused = await client.post(f"{API}/providers/ollama/configure", json=change)
        chosen = await client.post(f"{API}/providers/default", json={"provider": "ollama"})
        client.headers["authorization"] = "Bearer a"
        done = await client.post(f"{API}/providers/ollama/configure", json=change)
        other = await client.post(f"{API}/providers/ollama/configure", json={"enabled": False})
        default = await client.post(f"{API}/providers/default", json={"provider": "ollama"})
        answers = [done, other, default, await client.get(f"{API}/providers"), await client.get(f"{API}/models")]
        unknown = await client.post(f"{API}/providers/nobody/configure", json=change)

    assert error_of(refused)[:2] == error_of(chosen)[:2] == (403, "not_an_admin")
    assert (done.status_code, done.json()["success"]) == (200, True)
    settings = Settings(api_key="sk-new-secret", base_url="https://proxy.example/v1", default_model="m", enabled=False)
    assert cupboard.kept["ollama"] == settings
    assert cupboard.default == "ollama"
    assert not any("sk-" in answer.text for answer in answers)
    assert error_of(unknown) == (404, "provider_not_found", "provider")


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("ollama/configure", {"apiKey": ""}, (400, "invalid_value", "apiKey")),
        ("ollama/configure", {"baseUrl": "https://else.example"}, (400, "missing_required_parameter", "apiKey")),
        ("ollama/configure", {"baseUrl": "file:///etc/passwd"}, (400, "invalid_value", "baseUrl")),
        ("ollama/configure", {"enabled": "yes"}, (400, "invalid_type", "enabled")),
        ("ollama/configure", {"type": "groq"}, (400, "invalid_value", "type")),
        ("default", {}, (400, "missing_required_parameter", "provider")),
        ("default", {"provider": "nobody"}, (404, "provider_not_found", "provider")),
        ("nobody/health", {}, (404, "provider_not_found", "provider")),
        ("ollama", {}, (404, "unknown_url", None)),
    ],
)
async def test_bad_changes(http: Http, path: str, body: dict[str, Any], expected: Any) -> None:
    chat_api = ChatApi(admins=frozenset(["anonymous"]))
    async with http(serving(echo, providers=Cupboard(), chat_api=chat_api)) as client:
        assert error_of(await client.post(f"{API}/providers/{path}", json=body)) == expected


async def test_tools_are_listed_with_their_agents(http: Http) -> None:
    agents = {"shop": shopper(Shop(), *BUYS), "mall": shopper(Shop(), *BUYS), "plain": echo}
    keys = {"k": Principal("her", frozenset(["shop", "plain"]))}
    async with http(serving(agents)) as client:
        everything = (await client.get(f"{API}/tools")).json()
    async with http(serving(agents, keys=keys)) as client:
        hers = (await client.get(f"{API}/tools", headers={"authorization": "Bearer k"})).json()

    look, buy = everything["tools"]
    assert (everything["total"], look["name"], look["danger"], look["agents"]) == (2, "look", "safe", ["shop", "mall"])
    assert (look["description"], buy["danger"]) == ("Looks at something.", "risky")
    assert look["parameters"]["properties"]["what"]["type"] == "string"
    assert hers["tools"][0]["agents"] == ["shop"]
