"""Where tokens for this server are to be had, for clients that have none (RFC 9728)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..agents.setting_types import check_strings

WELL_KNOWN = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True)
class ResourceMetadata:
    """What `/.well-known/oauth-protected-resource` says, which refusals name in `WWW-Authenticate`.

    Raises ValueError for a `url` that is none.

    Attributes:
        url: of this server, as its clients know it: `https://agents.example.com`. Below a prefix of a host, the host has
            to hand the path in front of that on (`/.well-known/oauth-protected-resource/ai`).
        servers: the issuers of tokens for it.
        scopes: that tokens may have.
    """

    url: str
    servers: Iterable[str]
    scopes: Iterable[str] = ()

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        # It stands between quotes in a header.
        if parts.scheme not in ("https", "http") or not parts.netloc or '"' in self.url or not self.url.isprintable():
            raise ValueError(f"the url of a resource is one of http or https, not {self.url!r}")
        for name in ("servers", "scopes"):
            object.__setattr__(self, name, check_strings(f"ResourceMetadata.{name}", getattr(self, name)))

    @property
    def metadata_url(self) -> str:
        """Where this is to be read: the well-known path stands before that of the resource."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path.rstrip('/')}"

    @property
    def document(self) -> Mapping[str, Any]:
        """The metadata as JSON, as RFC 9728 has it."""
        scopes = list(self.scopes)
        return {
            "resource": self.url,
            "authorization_servers": list(self.servers),
            "bearer_methods_supported": ["header"],
            **({"scopes_supported": scopes} if scopes else {}),
        }
