"""`/models`, `/providers` and `/tools`: what can be talked to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...errors import Forbidden, InvalidRequest, NotFound
from ...exchange import Exchange
from ...protocol.chat_api import ConfigureRequest, DefaultProviderRequest
from ...provider import Health, ProviderControl
from ...runtime import Runtime
from ...serializers.encoding import dumps
from .asking import provider_names, provider_of
from .conversation import toolbox_of
from .posting import query, read

SERVED = Health(healthy=True, message="Served here.", latency_ms=0)


async def list_models(runtime: Runtime, exchange: Exchange) -> None:
    """The models that can be talked to here, of all providers or of one."""
    wanted = query(exchange).get("provider")
    if wanted is not None:
        _check_known(runtime, wanted)
    named = [(name, provider_of(runtime, name)) for name in runtime.agents if exchange.principal.may_use(name)]
    models = [_model(name, provider) for name, provider in named if wanted in (None, provider)]
    await exchange.answer(200, dumps({"models": models, "aliases": _aliases(runtime, wanted)}))


def _model(name: str, provider: str) -> Mapping[str, Any]:
    return {"id": name, "name": name, "provider": provider}


def _aliases(runtime: Runtime, wanted: str | None) -> list[Mapping[str, Any]]:
    if runtime.providers is None:
        return []
    found: list[Mapping[str, Any]] = []
    for alias, target in runtime.providers.aliases.items():
        provider, _, model = target.partition("/")
        if wanted in (None, provider):
            found.append({"alias": alias, "provider": provider, "model": model})
    return found


async def list_providers(runtime: Runtime, exchange: Exchange) -> None:
    """The providers, and how they are."""
    control = runtime.providers
    found = {} if control is None else dict(await control.health())
    if runtime.owned_by not in found:
        found[runtime.owned_by] = SERVED
    default = None if control is None else control.default
    shown = [_provider(name, health) for name, health in found.items()]
    await exchange.answer(200, dumps({"default": default or runtime.owned_by, "providers": shown}))


def _provider(name: str, health: Health) -> Mapping[str, Any]:
    told = {"healthy": health.healthy, "message": health.message, "latencyMs": health.latency_ms}
    return {"type": name, "enabled": True, **told}


async def list_offered(runtime: Runtime, exchange: Exchange, name: str) -> None:
    """The models that a provider offers. Raises NotFound."""
    if name == runtime.owned_by or runtime.providers is None:
        _check_known(runtime, name)
        found = [agent for agent in runtime.agents if exchange.principal.may_use(agent)]
    else:
        found = list(await runtime.providers.models(name))
    await exchange.answer(200, dumps({"models": [_model(model, name) for model in found]}))


async def check_health(runtime: Runtime, exchange: Exchange, name: str) -> None:
    """Look after a provider again. Raises NotFound."""
    if name == runtime.owned_by or runtime.providers is None:
        _check_known(runtime, name)
        health = SERVED
    else:
        health = await runtime.providers.health_of(name, fresh=True)
    told = {"healthy": health.healthy, "message": health.message, "latencyMs": health.latency_ms}
    await exchange.answer(200, dumps({"provider": name, **told}))


async def configure(runtime: Runtime, exchange: Exchange, name: str) -> None:
    """Change a provider's settings. Secrets go in, and never come out again."""
    control = _control(runtime, exchange)
    asked, _ = await read(runtime, exchange, ConfigureRequest)
    if asked.type is not None and asked.type != name:
        raise InvalidRequest("'type' is another provider than the path's.", param="type", code="invalid_value")
    given = asked.model_dump(exclude_none=True, include=set(FIELDS))
    if given.keys() & {"base_url", "resource_name"} and "api_key" not in given:
        text = "An address comes with its key: the key of another one is not sent to it."
        raise InvalidRequest(text, param="apiKey", code="missing_required_parameter")
    control.configure(name, replace(control.settings(name), **given))
    await exchange.answer(200, dumps({"success": True, "message": f"{name} is configured."}))


async def choose(runtime: Runtime, exchange: Exchange) -> None:
    """Make a provider the default one."""
    control = _control(runtime, exchange)
    asked, _ = await read(runtime, exchange, DefaultProviderRequest)
    control.set_default(asked.provider)
    await exchange.answer(200, dumps({"success": True, "message": f"{asked.provider} is the default now."}))


FIELDS = ("api_key", "base_url", "default_model", "resource_name", "deployment_name", "api_version", "enabled")


def _control(runtime: Runtime, exchange: Exchange) -> ProviderControl:
    """The providers, for those who may change them. Raises Forbidden and NotFound."""
    admins = frozenset[str]() if runtime.chat_api is None else runtime.chat_api.admins
    if exchange.principal.id not in admins:
        raise Forbidden("You may not change providers here.", code="not_an_admin")
    if runtime.providers is None:
        raise _unknown_provider()
    return runtime.providers


async def list_tools(runtime: Runtime, exchange: Exchange) -> None:
    """The agents' own tools, with the agents that have them."""
    found: dict[str, dict[str, Any]] = {}
    for agent, backend in runtime.agents.items():
        toolbox = toolbox_of(backend)
        if toolbox is None or not exchange.principal.may_use(agent):
            continue
        for tool in (await toolbox.listing()).tools.values():
            about = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            found.setdefault(tool.name, {**about, "danger": tool.danger, "agents": []})["agents"].append(agent)
    await exchange.answer(200, dumps({"tools": list(found.values()), "total": len(found)}))


def _check_known(runtime: Runtime, name: str) -> None:
    if name not in provider_names(runtime):
        raise _unknown_provider()


def _unknown_provider() -> NotFound:
    return NotFound("No provider has this name.", code="provider_not_found", param="provider")
