"""The startup banner: the addresses of the agents, and who may call them."""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec

from openai_compat import MemoryStore, Server, __version__
from openai_compat.policies.authenticate import OpenAccess

from .._terminal_colors import Color, colored, wants_colors
from ..serve import is_loopback
from .serve_options import ServeOptions


def summary(server: Server, host: str, port: int) -> str:
    """One line with the agents and the URL."""
    return f"openai-compat {__version__} serves {', '.join(server.services.models.agents)} at {_url(host, port)}"


def banner(server: Server, host: str, port: int, options: ServeOptions) -> str:
    """The agents and their targets, the addresses to open or copy, and who may call."""
    url, models = _url(host, port), list(server.services.models.agents)
    store = server.services.state.store
    facts = [
        *(() if options.is_demo else options.targets),
        f"Python {platform.python_version()}",
        "state in memory" if isinstance(store, MemoryStore) else "state in a database",
    ]
    rows = [("API", url, "base_url for any OpenAI client")]
    if server.has_page:
        rows.insert(0, ("Chat", page_url(host, port), "chat in the browser"))
    if options.ollama:
        rows.append(("Ollama", url.removesuffix("/v1"), "for clients of Ollama"))
    # Users who log in at a proxy send no key, unless the server accepts keys too.
    has_key = not isinstance(server.auth, OpenAccess) and (options.user_header is None or _accepts_keys(options))
    # The variable, not the key: many people read logs.
    key = f' --api-key "${options.api_key_env or "API_KEY"}"' if has_key else ""
    command = f"openai-compat chat --url {url}{f' --model {models[0]}' if len(models) > 1 else ''}{key}"
    named, where = _paint(f"openai-compat {__version__}", "bold"), _paint(f"({', '.join(facts)})", "dim")
    has_client = all([find_spec(package) for package in ("httpx2", "rich", "prompt_toolkit")])
    missing = "" if has_client else _paint("   (needs: pip install 'openai-compat[cli]')", "dim")
    lines = [
        f"{named} serves {', '.join(models)}  {where}",
        "",
        *_align_rows(rows),
        f"  {_paint('Terminal'.ljust(10), 'dim')}{command}{missing}",
        "",
        _paint(f"  {_access_text(host, options, has_key=has_key)} Press Ctrl-C to stop.", "dim"),
    ]
    return "\n".join(lines) + "\n"


def page_url(host: str, port: int) -> str:
    """URL of the chat page."""
    return f"{_url(host, port).removesuffix('v1')}ui/"


def _align_rows(rows: list[tuple[str, str, str]]) -> list[str]:
    """Lay out the addresses and their purposes in columns."""
    width = max([len(address) for _, address, _ in rows])
    return [
        f"  {_paint(name.ljust(10), 'dim')}{_paint(address, 'cyan')}{' ' * (width + 4 - len(address))}{_paint(why, 'dim')}"
        for name, address, why in rows
    ]


def _access_text(host: str, options: ServeOptions, *, has_key: bool) -> str:
    if options.user_header is not None:
        return f"Open to users logged in at the proxy{', and to clients with an API key' if has_key else ''}."
    if has_key:
        return "Clients need an API key."
    if is_loopback(host):
        return f"Open to anyone on this machine{'' if options.is_demo else '; --api-key-env NAME requires a key'}."
    return "The proxy in front decides who can call it."


def _accepts_keys(options: ServeOptions) -> bool:
    return any([options.api_key, options.api_key_env, options.api_key_file])


def _paint(text: str, *colors: Color) -> str:
    return colored(text, *colors) if wants_colors(sys.stderr) else text


def _url(host: str, port: int) -> str:
    shown = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host  # noqa: S104  (not bound here)
    return f"http://{shown}:{port}/v1"
