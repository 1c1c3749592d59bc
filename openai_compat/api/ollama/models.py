"""The endpoints about the server and its models."""

from __future__ import annotations

from datetime import UTC, datetime

from ...aio.off_loop import run_off_loop
from ...errors import OpenAICompatError
from ...wire.json import dumps, is_quick
from ...wire.ollama.model_info import LATEST, VERSION, capabilities_of, listed_model, shown_model
from ...wire.ollama.parse import parse_model
from ..exchange import Exchange
from ..services import Models, Services


async def send_greeting(services: Services, exchange: Exchange) -> None:
    """`GET /`, where programs look for an Ollama."""
    await exchange.answer(200, b"Ollama is running", ("Content-Type", "text/plain; charset=utf-8"))


async def get_version(services: Services, exchange: Exchange) -> None:
    """`GET /api/version`, with which programs check their connection."""
    await exchange.answer(200, dumps({"version": VERSION}))


async def list_models(services: Services, exchange: Exchange) -> None:
    """`GET /api/tags`: the models that the caller may use, in the order they were given."""
    models = services.models
    names = [name for name in models.names if exchange.principal.may_use(name)]
    await exchange.answer(200, dumps({"models": [listed_model(name, _created_at(models)) for name in names]}))


async def list_running(services: Services, exchange: Exchange) -> None:
    """`GET /api/ps`: the models that take up memory; none does."""
    await exchange.answer(200, dumps({"models": []}))


async def show_model(services: Services, exchange: Exchange) -> None:
    """`POST /api/show`: a model's capabilities. Raises NotFound."""
    body = await exchange.read_body(services.settings.limits, services.settings.deadlines)
    models = services.models
    name = own_name(models, await run_off_loop(parse_model, body, long=not is_quick(body)))
    models.check(name, exchange.principal)
    if name not in models.names:  # the first agent answers for unknown models
        name = next(iter(models.agents))
    backend = models.agents.get(name)
    can = None if backend is None else backend.capabilities
    answer = shown_model(can, capabilities_of(can, embeds=name in models.embedders), _created_at(models))
    await exchange.answer(200, dumps(answer))


async def refuse_change(services: Services, exchange: Exchange) -> None:
    """Refuse requests that change the models of an Ollama. Raises an error of status 501."""
    text = "The models of this server are agents, which are neither fetched nor changed through it."
    error = OpenAICompatError(text, code="not_supported", should_retry=False)
    error.status = 501
    raise error


def own_name(models: Models, asked: str) -> str:
    """The name of the model that a client means: it may send the name with the tag that lists add."""
    return asked if asked in models.names else asked.removesuffix(LATEST)


def _created_at(models: Models) -> str:
    # An agent has no creation time, so this is the server's.
    return datetime.fromtimestamp(models.started, UTC).isoformat().replace("+00:00", "Z")
