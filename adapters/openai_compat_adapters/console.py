"""What the program tells people when it begins: how to call the server."""

from __future__ import annotations

from openai_compat import Server, __version__
from openai_compat.policies.auth import OpenAccess


def banner(server: Server, host: str, port: int, key_variable: str | None) -> str:
    """What is served, where, and a command that calls it. `key_variable` is the environment variable with the key."""
    shown = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host  # noqa: S104  (not bound here)
    url = f"http://{shown}:{port}/v1"
    models = list(server.runtime.agents)
    has_key = not isinstance(server.auth, OpenAccess)
    lines = [
        f"openai-compat {__version__} serves {', '.join(models)} at {url}",
        "",
        f"  curl {url}/chat/completions \\",
        *([f'    -H "Authorization: Bearer ${key_variable or "API_KEY"}" \\'] if has_key else []),
        "    -H 'Content-Type: application/json' \\",
        f"""    -d '{{"model": "{models[0]}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'""",
        "",
        f"or: openai-compat chat --url {url}{f' --model {models[0]}' if len(models) > 1 else ''}",
    ]
    return "\n".join(lines) + "\n"
