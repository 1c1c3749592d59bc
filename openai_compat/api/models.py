"""`GET /v1/models` and `GET /v1/models/{id}`: agents are the models, and what makes embeddings."""

from __future__ import annotations

from ..wire.json import dumps
from ..wire.models import Model, ModelList
from .exchange import Exchange
from .services import Runtime


async def list_models(runtime: Runtime, exchange: Exchange) -> None:
    """Every model the caller may use, in the order they were given."""
    names = [name for name in runtime.models if exchange.principal.may_use(name)]
    listing: ModelList = {"object": "list", "data": [_model(runtime, name) for name in names]}
    await exchange.answer(200, dumps(listing))


async def get_model(runtime: Runtime, exchange: Exchange, model: str) -> None:
    """One model. Raises NotFound."""
    runtime.check_model(model, exchange.principal)
    await exchange.answer(200, dumps(_model(runtime, model)))


def _model(runtime: Runtime, name: str) -> Model:
    return {"id": name, "object": "model", "created": runtime.started, "owned_by": runtime.owned_by}
