"""The catalog: models, providers and tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
import pytest

from openai_compat import AgentBackend, Capabilities, ChatRest, ChatWebSocket, Principal, as_backend
from openai_compat.api.chat_rest.prepare import agent_for
from openai_compat.backends.pool import pooled
from openai_compat.errors import NotFound
from openai_compat.providers import Fallback, Providers
from openai_compat.providers.port import Health, ProviderSettings
from openai_compat.tools import ToolLoop
from tests.api.chat_rest.support import API, BUYS, Shop, error_of, serving, shopper
from tests.connecting import Http, in_process
from tests.requirements import requirement

pytestmark = [pytest.mark.anyio, in_process]


async def echo(prompt: str) -> str:
    return prompt


class Cupboard:
    """Providers whose settings a test can inspect."""

    def __init__(self) -> None:
        self.default: str | None = "anthropic"
        self.kept = {"anthropic": ProviderSettings(api_key="sk-ant"), "ollama": ProviderSettings()}
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

    def settings(self, name: str) -> ProviderSettings:
        if name not in self.kept:
            raise NotFound("No provider has this name.", code="provider_not_found", param="provider")
        return self.kept[name]

    def configure(self, name: str, settings: ProviderSettings) -> None:
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
    assert everything["aliases"] == []  # no agent here serves ollama/llama4
    assert [one["id"] for one in offered["models"]] == ["ollama-large"]
    assert (health["healthy"], cupboard.looked) == (False, 1)
    assert (asked["provider"], asked["model"], together["model"]) == (
        "anthropic",
        "anthropic/claude",
        "anthropic/claude",
    )


@requirement("chat_rest.providers")
async def test_only_admins_change_providers_and_keys_never_come_back(http: Http) -> None:
    cupboard = Cupboard()
    keys = {"a": Principal("admin"), "u": Principal("user")}
    server = serving(echo, providers=cupboard, keys=keys, chat_rest=ChatRest(admins=frozenset(["admin"])))
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
    settings = ProviderSettings(
        api_key="sk-new-secret", base_url="https://proxy.example/v1", default_model="m", enabled=False
    )
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
    chat_rest = ChatRest(admins=frozenset(["anonymous"]))
    async with http(serving(echo, providers=Cupboard(), chat_rest=chat_rest)) as client:
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


# an agent's provider

NOWHERE = "http://127.0.0.1:9/v1"
SETTINGS = {name: ProviderSettings(api_key="k", base_url=NOWHERE) for name in ("anthropic", "groq", "ollama")}


def behind(upstream: str | None) -> AgentBackend:
    """An agent that declares its upstream model."""
    return as_backend(echo, capabilities=Capabilities(upstream=upstream))


async def quick(client: httpx2.AsyncClient, **fields: Any) -> Any:
    return await client.post(f"{API}/quick", json={"prompt": "Hi", **fields})


@requirement("chat_rest.models")
async def test_every_model_and_alias_that_is_listed_can_be_asked_for(http: Http) -> None:
    aliases = {"small": "groq/llama-3.1-8b-instant", "big": "groq/llama-90b", "local": "ollama/llama3.2", "own": "mine"}
    agents = {
        "fast": behind("groq/llama-3.1-8b-instant"),
        "ollama/llama3.2": behind(None),
        "mine": behind(None),
        "hidden": behind("groq/llama-90b"),
    }
    keys = {"k": Principal("ann", frozenset(["fast", "ollama/llama3.2", "mine"]))}
    providers = Providers(SETTINGS, aliases=aliases)
    async with http(serving(agents, providers=providers, keys=keys)) as client:
        client.headers["authorization"] = "Bearer k"
        listed = (await client.get(f"{API}/models")).json()
        named = [one["id"] for one in listed["models"]] + [one["alias"] for one in listed["aliases"]]
        answers = {name: await quick(client, model=name) for name in named}
        other = await quick(client, model="big")

    assert set(named) == {"fast", "ollama/llama3.2", "mine", "small", "local", "own"}
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(named, 200)
    assert answers["small"].json()["provider"] == "groq"
    assert error_of(other) == (404, "model_not_found", "model")


@requirement("chat_rest.models")
async def test_the_aliases_of_the_providers_page_are_answered(http: Http) -> None:
    providers = Providers(SETTINGS, default="groq", aliases={"small": "groq/llama-3.1-8b-instant"})
    agents = {
        "fast": providers.backend("small", system="Answer in one sentence."),
        "careful": ToolLoop(Fallback({"first": providers.backend("anthropic/claude-opus-5")})),
        "local": pooled(lambda: providers.backend("ollama/llama3.2")),
    }
    server = serving(agents, providers=providers)
    async with http(server) as client:
        listed = (await client.get(f"{API}/models")).json()
        anthropics = (await client.get(f"{API}/models?provider=anthropic")).json()["models"]

    assert [(one["id"], one["provider"]) for one in listed["models"]] == [
        ("fast", "groq"),
        ("careful", "anthropic"),
        ("local", "ollama"),
    ]
    assert [one["alias"] for one in listed["aliases"]] == ["small"]
    assert agent_for(server.services.models, Principal("anonymous"), "small") == "fast"
    assert [one["id"] for one in anthropics] == ["careful"]


@requirement("chat_rest.models")
async def test_whose_an_agent_is_the_agent_says_whatever_it_is_called(http: Http) -> None:
    agents = {
        "anthropic/pretender": behind("groq/llama"),
        "assistant": behind("anthropic"),
        "else": behind("mistral/m"),
    }
    async with http(serving(agents, providers=Providers(SETTINGS))) as client:
        of = {
            name: [one["id"] for one in (await client.get(f"{API}/models?provider={name}")).json()["models"]]
            for name in ("anthropic", "groq", "mistral", "openai-compat")
        }
        asked = (await quick(client, provider="anthropic")).json()

    assert of == {
        "anthropic": ["assistant"],
        "groq": ["anthropic/pretender"],
        "mistral": ["else"],
        "openai-compat": [],
    }
    assert (asked["provider"], asked["model"]) == ("anthropic", "assistant")


async def test_an_agent_of_a_provider_that_nobody_configured_is_found_all_the_same(http: Http) -> None:
    async with http(serving({"a": behind("anthropic/m"), "b": echo})) as client:
        providers = (await client.get(f"{API}/providers")).json()["providers"]
        models = (await client.get(f"{API}/providers/anthropic/models")).json()["models"]
        health = (await client.post(f"{API}/providers/anthropic/health")).json()

    assert [one["type"] for one in providers] == ["anthropic", "openai-compat"]
    assert [one["id"] for one in models] == ["a"]
    assert health["healthy"] is True


@requirement("chat_rest.providers")
async def test_the_provider_that_is_chosen_answers_where_no_model_is_named(http: Http) -> None:
    agents = {"first": behind("anthropic/m"), "second": behind("groq/m"), "own": echo}
    chat_rest = ChatRest(admins=frozenset(["anonymous"]))
    server = serving(
        agents, providers=Providers(SETTINGS, default="groq"), chat_rest=chat_rest, chat_websocket=ChatWebSocket()
    )
    found: list[Any] = []
    async with http(server) as client:
        found.append((await quick(client)).json()["model"])
        for provider in ("groq", "anthropic", "openai-compat", "ollama"):
            chosen = await client.post(f"{API}/providers/default", json={"provider": provider})
            shown = (await client.get(f"{API}/providers")).json()["default"]
            found.append((provider, chosen.status_code, shown, (await quick(client)).json()["model"]))
        told = chosen.json()["message"]
        named = (await quick(client, model="second")).json()["model"]
        by_provider = (await quick(client, provider="groq")).json()["model"]

    assert found == [
        "first",
        ("groq", 200, "groq", "second"),
        ("anthropic", 200, "anthropic", "first"),
        ("openai-compat", 200, "openai-compat", "own"),
        ("ollama", 200, "ollama", "first"),
    ]
    assert "None of the agents" in told
    assert (named, by_provider) == ("second", "second")
