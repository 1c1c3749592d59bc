"""Descriptions of models for clients: agents, and models that create embeddings."""

from __future__ import annotations

import hashlib
from typing import Any

from ...backend import Capabilities

VERSION = "0.13.0"
"""The version of Ollama whose API is served: clients request it, and some require one that supports thinking and tools."""

LATEST = ":latest"
"""The tag of a model name without a tag."""

UNKNOWN_WINDOW = 131_072
"""Context window in tokens reported for an agent that declares none: clients truncate to this value, or to 4096 if absent."""

FAMILY = "agent"


def tagged_name(name: str) -> str:
    """Return a model's name as listed, with a tag."""
    return name if ":" in name else name + LATEST


def capabilities_of(can: Capabilities | None, *, embeds: bool) -> list[str]:
    """Return the capabilities by which clients choose models. `can` is None for models that only create embeddings."""
    found: list[str] = []
    if can is not None:
        thinks = can.parameters is None or "reasoning_effort" in can.parameters
        kinds = {"completion": True, "tools": can.client_tools, "vision": can.vision, "thinking": thinks}
        found = [kind for kind, has in kinds.items() if has]
    return [*found, *(["embedding"] if embeds else [])]


def listed_model(name: str, modified_at: str) -> dict[str, Any]:
    """Return a model as listed."""
    return {
        "name": tagged_name(name),
        "model": tagged_name(name),
        "modified_at": modified_at,
        "size": 0,
        "digest": hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest(),
        "details": _details(),
    }


def shown_model(can: Capabilities | None, capabilities: list[str], modified_at: str) -> dict[str, Any]:
    """Return the full description of a model."""
    window = can.context_window if can is not None else None
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(),
        "model_info": {
            "general.architecture": FAMILY,
            f"{FAMILY}.context_length": UNKNOWN_WINDOW if window is None else window,
        },
        "capabilities": capabilities,
        "modified_at": modified_at,
    }


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": FAMILY,
        "family": FAMILY,
        "families": [FAMILY],
        "parameter_size": "",
        "quantization_level": "",
    }
