"""`GET /v1/models` and `GET /v1/models/{id}`: agents are the models."""

from __future__ import annotations

from ..exchange import Exchange
from ..protocol.models import Model, ModelList
from ..runtime import Runtime
from ..serializers.encoding import dumps


async def list_models(runtime: Runtime, exchange: Exchange) -> None:
    """Every agent the caller may use, in the order they were given."""
    names = [name for name in runtime.agents if exchange.principal.may_use(name)]
    listing: ModelList = {"object": "list", "data": [_model(runtime, name) for name in names]}
    await exchange.answer(200, dumps(listing))


async def get_model(runtime: Runtime, exchange: Exchange, model: str) -> None:
    """One agent. Raises NotFound."""
    runtime.agent(model, exchange.principal)
    await exchange.answer(200, dumps(_model(runtime, model)))


def _model(runtime: Runtime, name: str) -> Model:
    return {"id": name, "object": "model", "created": runtime.started, "owned_by": runtime.owned_by}
