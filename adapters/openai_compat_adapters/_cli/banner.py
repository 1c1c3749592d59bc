"""The banner at startup: how to call the server."""

from __future__ import annotations

from importlib.util import find_spec

from openai_compat import Server, __version__
from openai_compat.policies.authenticate import OpenAccess

from .serve_options import ServeOptions


def summary(server: Server, host: str, port: int) -> str:
    """The agents and the URL, in a line."""
    return f"openai-compat {__version__} serves {', '.join(server.services.models.agents)} at {_url(host, port)}"


def banner(server: Server, host: str, port: int, options: ServeOptions) -> str:
    """The agents, the URL, and a command that calls it."""
    url = _url(host, port)
    models = list(server.services.models.agents)
    has_key = not isinstance(server.auth, OpenAccess)
    can_chat = all([find_spec(package) for package in ("openai", "httpx2")])
    hint = "" if can_chat else "   (after: pip install 'openai-compat[client]')"
    lines = [
        summary(server, host, port),
        *([f"programs that speak to an Ollama find them at {url.removesuffix('/v1')}"] if options.ollama else []),
        *([f"talk to them at {url.removesuffix('v1')}ui/"] if server.has_page else []),
        f"up to {server.services.settings.limits.slots} turns at once (--max-concurrency)",
        "",
        f"  curl {url}/chat/completions \\",
        # The variable and not the key: logs are read by many.
        *([f'    -H "Authorization: Bearer ${options.api_key_env or "API_KEY"}" \\'] if has_key else []),
        "    -H 'Content-Type: application/json' \\",
        f"""    -d '{{"model": "{models[0]}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'""",
        "",
        f"or: openai-compat chat --url {url}{f' --model {models[0]}' if len(models) > 1 else ''}{hint}",
    ]
    return "\n".join(lines) + "\n"


def _url(host: str, port: int) -> str:
    shown = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host  # noqa: S104  (not bound here)
    return f"http://{shown}:{port}/v1"
