"""`GET /v1/models` and `GET /v1/models/{id}`: the agents, and the functions that make embeddings or decisions."""

from __future__ import annotations

from ..wire.json import dumps
from ..wire.models import Model, ModelList
from .exchange import Exchange
from .services import Models, Services


async def list_models(services: Services, exchange: Exchange) -> None:
    """Every model the caller may use, in the order they were given."""
    names = [name for name in services.models.names if exchange.principal.may_use(name)]
    listing: ModelList = {"object": "list", "data": [_model(services.models, name) for name in names]}
    await exchange.answer(200, dumps(listing))


async def get_model(services: Services, exchange: Exchange, model: str) -> None:
    """One model that the caller may use. Raises NotFound."""
    services.models.check(model, exchange.principal)
    await exchange.answer(200, dumps(_model(services.models, model)))


def _model(models: Models, name: str) -> Model:
    # The types of OpenAI's SDKs need a creation time. An agent has none, so this is the server's.
    agent = models.agents.get(name)
    # A model that is not an agent makes embeddings or decisions, and supports nothing else.
    can = agent.capabilities if agent is not None else None
    model: Model = {
        "id": name,
        "object": "model",
        "created": models.started,
        "owned_by": models.owned_by,
        "capabilities": {
            "chat": can is not None,
            "embeddings": name in models.embedders,
            "decisions": name in models.deciders,
            "client_tools": can is not None and can.client_tools,
            "vision": can is not None and can.vision,
            "audio_input": can is not None and can.audio_input,
            "files": can is not None and can.files,
            "structured_output": can is not None and can.structured_output,
            "approvals": "none" if can is None else can.approvals,
        },
    }
    if can is not None and can.description:
        model["description"] = can.description
    return model
