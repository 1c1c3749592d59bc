"""What clients are told of a model: an agent, or what makes embeddings."""

from __future__ import annotations

import hashlib
from typing import Any

from ...backend import Capabilities

VERSION = "0.13.0"
"""The version of Ollama whose API this is: clients ask for it, and some want one that knows thinking and tools."""

LATEST = ":latest"
"""What a name without a tag has as its tag."""

UNKNOWN_WINDOW = 131_072
"""Tokens that an agent is said to take which does not tell: clients cut conversations to what they find, or to 4096."""

FAMILY = "agent"


def tagged(name: str) -> str:
    """A model's name as it is listed."""
    return name if ":" in name else name + LATEST


def capabilities_of(can: Capabilities | None, *, embeds: bool) -> list[str]:
    """What clients choose models by. `can` is None for what only makes embeddings."""
    found: list[str] = []
    if can is not None:
        thinks = can.parameters is None or "reasoning_effort" in can.parameters
        kinds = {"completion": True, "tools": can.client_tools, "vision": can.vision, "thinking": thinks}
        found = [kind for kind, has in kinds.items() if has]
    return [*found, *(["embedding"] if embeds else [])]


def listed(name: str, modified_at: str) -> dict[str, Any]:
    """A model in a list."""
    return {
        "name": tagged(name),
        "model": tagged(name),
        "modified_at": modified_at,
        "size": 0,
        "digest": hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest(),
        "details": _details(),
    }


def shown_model(can: Capabilities | None, capabilities: list[str], modified_at: str) -> dict[str, Any]:
    """All that is told of one."""
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
