"""The error for a missing package is one sentence, with the command that installs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.requirements import requirement

SCRIPT = """
import importlib, json, sys

class Blocker:
    package = None
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

blocker = Blocker()
sys.meta_path.insert(0, blocker)
ENGINES = ("openai_compat.stores.postgres", "openai_compat.testing.strategies")
kept = set(sys.modules)
said = {}
for case, (package, code) in json.load(sys.stdin).items():
    for name in set(sys.modules) - kept:
        if name.partition(".")[0] in ("openai_compat_adapters", package) or name in ENGINES:
            del sys.modules[name]
    blocker.package = package
    try:
        exec(code, {})
        said[case] = "nothing"
    except BaseException as error:
        said[case] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""

RUN = """
from click.testing import CliRunner
from openai_compat_adapters.cli import main
result = CliRunner().invoke(main, {arguments!r})
raise SystemExit(f"{{result.exit_code}} {{result.output.splitlines()[-1]}} {{result.exception!r}}")
"""

BOTS = """
import os, sys, tempfile
os.chdir(tempfile.mkdtemp())
open('bot.py', 'w').write('from langgraph.graph import StateGraph')
open('adk.py', 'w').write('from google.adk.agents import LlmAgent')
"""
HELLO = (
    BOTS + "import sys, types; m = sys.modules['hello'] = types.ModuleType('hello'); m.agent = lambda prompt: 'hi'\n"
)


def command(*arguments: str) -> str:
    return HELLO + RUN.format(arguments=arguments)


CASES: dict[str, tuple[str, str, str]] = {
    # case: the missing package, the action, the extra
    **{
        f"import {module} without {package}": (package, f"import openai_compat_adapters.{module}", extra)
        for module, package, extra in [
            ("starlette", "starlette", "starlette"),
            ("client", "openai", "client"),
            ("client", "httpx2", "client"),
            ("testing", "openai", "client"),
            ("testing", "httpx2", "client"),
            ("transport", "httpx2", "client"),
            ("webhooks", "httpx2", "client"),
            ("oauth", "jwt", "oauth"),
            ("oauth", "httpx2", "oauth"),
            ("serve", "uvicorn", "serve"),
            ("serve", "starlette", "serve"),
            ("serve", "httptools", "serve"),
            ("serve", "websockets", "serve"),
            ("cli", "click", "cli"),
            ("telemetry", "opentelemetry", "otel"),
            ("prometheus", "prometheus_client", "prometheus"),
        ]
    },
    **{
        f"import the backend {module}": (
            package,
            f"import openai_compat.backends.{module}",
            module.partition(".")[0].replace("_", "-"),
        )
        for module, package in [
            ("a2a", "a2a"),
            ("acp", "acp"),
            ("agent_framework", "agent_framework"),
            ("agno", "agno"),
            ("claude_agent_sdk", "claude_agent_sdk"),
            ("google_adk", "google"),
            ("haystack", "haystack"),
            ("langgraph", "langchain_core"),
            ("langgraph.backend", "langchain_core"),
            ("llama_index", "llama_index"),
            ("openai_agents", "agents"),
            ("pydantic_ai", "pydantic_ai"),
            ("smolagents", "smolagents"),
            ("strands", "strands"),
        ]
    },
    "the program without click": ("click", "from openai_compat_adapters._cli.command import main; main()", "cli"),
    "serve without uvicorn": ("uvicorn", command("serve", "hello:agent"), "serve"),
    "serve without starlette": ("starlette", command("serve", "hello:agent"), "serve"),
    "serve without websockets": ("websockets", command("serve", "hello:agent"), "serve"),
    "reload without watchfiles": ("watchfiles", command("serve", "hello:agent", "--reload"), "reload"),
    "traces without opentelemetry": ("opentelemetry", command("serve", "hello:agent", "--otel"), "otel"),
    "metrics without prometheus_client": (
        "prometheus_client",
        command("serve", "hello:agent", "--metrics"),
        "prometheus",
    ),
    "chat without httpx2": ("httpx2", command("chat", "--url", "http://127.0.0.1:9", "-m", "hi"), "cli"),
    "webhooks without httpx2": (
        "httpx2",
        "import os; os.environ['HOOK'] = 'secret'\n"
        + command("serve", "hello:agent", "--webhook", "https://a.example", "--webhook-secret-env", "HOOK"),
        "client",
    ),
    "PostgreSQL without asyncpg": (
        "asyncpg",
        command("serve", "hello:agent", "--store", "postgresql://a@127.0.0.1/b"),
        "postgres",
    ),
    "Anthropic's backend without anthropic": (
        "anthropic",
        "from openai_compat.backends.anthropic import AnthropicBackend; AnthropicBackend(model='m')",
        "anthropic",
    ),
    "OpenAI's backend without openai": (
        "openai",
        "from openai_compat.backends.openai import OpenAIBackend; OpenAIBackend(model='m')",
        "openai",
    ),
    "MCP without mcp": ("mcp", "from openai_compat.tools.mcp import MCPServer; MCPServer('x', ['x'])", "mcp"),
    "an agent whose framework is not there": ("langgraph", command("serve", "bot:agent"), "langgraph"),
    "an agent whose framework's half is not there": ("google", command("serve", "adk:agent"), "google-adk"),
    "strategies without hypothesis": ("hypothesis", "import openai_compat.testing.strategies", "test"),
}


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    cases = json.dumps({name: (package, code) for name, (package, code, _) in CASES.items()})
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=cases, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, str] = json.loads(ran.stdout.splitlines()[-1])
    return found


@requirement("cli.extras")
@pytest.mark.timeout(150)
@pytest.mark.parametrize("case", CASES)
def test_a_missing_package_is_told_with_the_extra_that_brings_it(said: dict[str, str], case: str) -> None:
    package, _, extra = CASES[case]
    text = said[case]
    assert f"pip install 'openai-compat[{extra}]'" in text
    assert package in text
    assert text.partition(":")[0] in ("MissingExtra", "SystemExit", "ImportError")
    assert "Traceback" not in text
