"""`/models`, `/providers` and `/tools`: what clients can choose from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...agent_request import Principal
from ...errors import Forbidden, InvalidRequest, NotFound
from ...wire.chat_rest.types import ConfigureRequest, DefaultProviderRequest
from ...wire.json import dumps
from ..exchange import Exchange
from ..services import Models, Services
from .lookup import toolbox_of
from .prepare import agent_for
from .request import query, read_request

if TYPE_CHECKING:  # servers without providers never import the package
    from ...providers.port import Health, ProviderControl
    from ..stored_providers import StoredProviders


async def list_models(services: Services, exchange: Exchange) -> None:
    """The models that the caller may use, of all providers or of one."""
    wanted = query(exchange).get("provider")
    if wanted is not None:
        _check_known(services.models, wanted)
    named = [
        (name, services.models.provider_of(name)) for name in services.models.agents if exchange.principal.may_use(name)
    ]
    models = [_model(name, provider) for name, provider in named if wanted in (None, provider)]
    await exchange.answer(
        200, dumps({"models": models, "aliases": _aliases(services.models, exchange.principal, wanted)})
    )


def _model(name: str, provider: str) -> Mapping[str, Any]:
    return {"id": name, "name": name, "provider": provider}


def _aliases(models: Models, principal: Principal, wanted: str | None) -> list[Mapping[str, Any]]:
    """The aliases by which the caller can request these models."""
    if models.providers is None:
        return []
    found: list[Mapping[str, Any]] = []
    for alias, target in models.providers.aliases.items():
        provider, _, model = target.partition("/")
        if wanted in (None, provider) and agent_for(models, principal, alias) is not None:
            found.append({"alias": alias, "provider": provider, "model": model})
    return found


async def list_providers(services: Services, exchange: Exchange) -> None:
    """The providers and their health."""
    control = services.models.providers
    found = {} if control is None else dict(await control.health())
    for name in services.models.provider_names():
        if name not in found:
            found[name] = await _health_of(services.models, name)
    default = services.models.choice.provider or (None if control is None else control.default)
    shown = [
        {
            "type": name,
            "enabled": True,
            "healthy": health.healthy,
            "message": health.message,
            "latencyMs": health.latency_ms,
        }
        for name, health in found.items()
    ]
    await exchange.answer(200, dumps({"default": default or services.models.owned_by, "providers": shown}))


async def _health_of(models: Models, name: str, *, fresh: bool = False) -> Health:
    """The health of a provider; one that only the agents declare counts as healthy."""
    if name != models.owned_by and models.providers is not None:
        with suppress(NotFound):
            return await models.providers.health_of(name, fresh=fresh)
    _check_known(models, name)
    from ...providers.port import Health  # noqa: PLC0415  (not for servers that nobody asks for their providers)

    return Health(healthy=True, message="Served here.", latency_ms=0)


async def list_provider_models(services: Services, exchange: Exchange, name: str) -> None:
    """The models that a provider offers. Raises NotFound."""
    if (
        name == services.models.owned_by
        or services.models.providers is None
        or not _is_configurable(services.models.providers, name)
    ):
        _check_known(services.models, name)
        own = [agent for agent in services.models.agents if services.models.provider_of(agent) == name]
        found = [agent for agent in own if exchange.principal.may_use(agent)]
    else:
        found = list(await services.models.providers.models(name))
    await exchange.answer(200, dumps({"models": [_model(model, name) for model in found]}))


def _is_configurable(control: ProviderControl, name: str) -> bool:
    """True if the configured providers include this one."""
    try:
        control.settings(name)
    except NotFound:
        return False
    return True


async def check_health(services: Services, exchange: Exchange, name: str) -> None:
    """Check a provider's health again. Raises NotFound."""
    health = await _health_of(services.models, name, fresh=True)
    status = {"healthy": health.healthy, "message": health.message, "latencyMs": health.latency_ms}
    await exchange.answer(200, dumps({"provider": name, **status}))


async def configure(services: Services, exchange: Exchange, name: str) -> None:
    """Change a provider's settings. Secrets can be set, but never read."""
    stored = _stored_providers(services, exchange.principal)
    asked, _ = await read_request(services.settings, exchange, ConfigureRequest)
    if asked.type is not None and asked.type != name:
        raise InvalidRequest("'type' is another provider than the path's.", param="type", code="invalid_value")
    # Fields that are left out keep their values: a form that does not show the key sends none.
    given = asked.model_dump(exclude_none=True, include=set(FIELDS))
    if given.keys() & {"base_url", "resource_name"} and "api_key" not in given:
        text = "An address comes with its key: the key of another one is not sent to it."
        raise InvalidRequest(text, param="apiKey", code="missing_required_parameter")
    await stored.change(name, given)
    await exchange.answer(200, dumps({"success": True, "message": f"{name} is configured."}))


async def choose(services: Services, exchange: Exchange) -> None:
    """Make a provider the default: its agents answer requests without a model, its models those without a provider."""
    stored = _stored_providers(services, exchange.principal)
    asked, _ = await read_request(services.settings, exchange, DefaultProviderRequest)
    await stored.choose(asked.provider)
    message = f"{asked.provider} is the default now."
    if asked.provider not in [services.models.provider_of(name) for name in services.models.agents]:
        message += (
            " None of the agents here has one of its models, so the first agent still answers where none is named."
        )
    await exchange.answer(200, dumps({"success": True, "message": message}))


FIELDS = ("api_key", "base_url", "default_model", "resource_name", "deployment_name", "api_version", "enabled")


def _stored_providers(services: Services, principal: Principal) -> StoredProviders:
    """The stored providers, for those who may change them. Raises Forbidden and NotFound."""
    rest = services.settings.chat_rest
    # Checked first: only admins may learn if there are providers.
    if principal.id not in (frozenset[str]() if rest is None else rest.admins):
        raise Forbidden("You may not change providers here.", code="not_an_admin")
    if services.state.providers is None:
        raise _unknown_provider()
    return services.state.providers


async def list_tools(services: Services, exchange: Exchange) -> None:
    """The agents' own tools, with the agents that have them."""
    found: dict[str, dict[str, Any]] = {}
    for agent, backend in services.models.agents.items():
        toolbox = toolbox_of(backend)
        if toolbox is None or not exchange.principal.may_use(agent):
            continue
        for tool in (await toolbox.listing()).tools.values():
            about = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            found.setdefault(tool.name, {**about, "danger": tool.danger, "agents": []})["agents"].append(agent)
    await exchange.answer(200, dumps({"tools": list(found.values()), "total": len(found)}))


def _check_known(models: Models, name: str) -> None:
    if name not in models.provider_names():
        raise _unknown_provider()


def _unknown_provider() -> NotFound:
    return NotFound("No provider has this name.", code="provider_not_found", param="provider")
