"""`/.well-known/oauth-protected-resource`: where clients get tokens (RFC 9728). The route itself needs no token."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..policies.resource_metadata import WELL_KNOWN, ResourceMetadata
from ..wire.json import dumps
from .exchange import Exchange
from .routing import Operation, Route
from .services import Services


def metadata_route(resource: ResourceMetadata) -> Route:
    """The route of the metadata; also with the resource's path appended, where clients look if the resource has a path."""
    data = dumps(resource.document)

    async def metadata(services: Services, exchange: Exchange) -> None:
        await exchange.answer(200, data, ("Cache-Control", "max-age=3600"))

    path = urlsplit(resource.metadata_url).path
    aliases = () if path == WELL_KNOWN else (path,)
    return Route(WELL_KNOWN, {"GET": Operation(metadata)}, aliases=aliases, open=True, described=False)
