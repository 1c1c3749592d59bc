"""The banner at startup: where to talk to the agents, and who may."""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec

from openai_compat import MemoryStore, Server, __version__
from openai_compat.policies.authenticate import OpenAccess

from .._terminal_colors import Color, colored, wants_colors
from ..serve import is_loopback
from .serve_options import ServeOptions

COLUMN = 34
"""Width of the addresses."""


def summary(server: Server, host: str, port: int) -> str:
    """The agents and the URL, in a line."""
    return f"openai-compat {__version__} serves {', '.join(server.services.models.agents)} at {_url(host, port)}"


def banner(server: Server, host: str, port: int, options: ServeOptions) -> str:
    """The agents, where they are from, the addresses to open and to copy, and who may call."""
    url, models = _url(host, port), list(server.services.models.agents)
    ours = __name__.partition(".")[0]
    store = server.services.state.store
    facts = [
        *[target for target in options.targets if not target.startswith(ours)],
        f"Python {platform.python_version()}",
        "state in memory" if isinstance(store, MemoryStore) else "state in a database",
    ]
    page = _row("Chat", page_url(host, port), "cyan", "try them in the browser")
    has_key = not isinstance(server.auth, OpenAccess)
    # The variable and not the key: logs are read by many.
    key = f' --api-key "${options.api_key_env or "API_KEY"}"' if has_key else ""
    command = f"openai-compat chat --url {url}{f' --model {models[0]}' if len(models) > 1 else ''}{key}"
    named, where = _paint(f"openai-compat {__version__}", "bold"), _paint(f"({', '.join(facts)})", "dim")
    lines = [
        f"{named} serves {', '.join(models)}  {where}",
        "",
        *([page] if server.has_page else []),
        _row("API", url, "cyan", "base_url of any OpenAI client"),
        *([_row("Ollama", url.removesuffix("/v1"), "cyan", "for programs that speak to an Ollama")] if options.ollama else []),
        _row("Terminal", command) + _lacks_client(),
        "",
        _paint(f"  {_who_may(host, has_key=has_key)} Ctrl-C ends.", "dim"),
    ]
    return "\n".join(lines) + "\n"


def page_url(host: str, port: int) -> str:
    """The address of the page."""
    return f"{_url(host, port).removesuffix('v1')}ui/"


def _row(name: str, value: str, color: Color | None = None, why: str = "") -> str:
    shown = _paint(value, *([color] if color else []))
    return f"  {_paint(name.ljust(10), 'dim')}{shown}" + (
        " " * (COLUMN - len(value)) + _paint(why, "dim") if why else ""
    )


def _who_may(host: str, *, has_key: bool) -> str:
    if has_key:
        return "Who has a key may call it."
    if is_loopback(host):
        return "Anybody on this machine may call it: --api-key-env NAME wants a key."
    return "The proxy in front says who may call it."


def _lacks_client() -> str:
    has_client = all([find_spec(package) for package in ("httpx2", "rich", "prompt_toolkit")])
    return "" if has_client else _paint("   (after: pip install 'openai-compat[cli]')", "dim")


def _paint(text: str, *colors: Color) -> str:
    return colored(text, *colors) if wants_colors(sys.stderr) else text


def _url(host: str, port: int) -> str:
    shown = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host  # noqa: S104  (not bound here)
    return f"http://{shown}:{port}/v1"
