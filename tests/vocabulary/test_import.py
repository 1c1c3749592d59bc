"""The core needs pydantic and anyio only: no other package is loaded or required."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

VENDORS = [
    "openai",
    "anthropic",
    "httpx",
    "httpx2",
    "starlette",
    "fastapi",
    "uvicorn",
    "httptools",
    "click",
    "trio",
    "hypothesis",
    "pytest",
]

SERVES = """
import json, sys
sys.modules.update(dict.fromkeys({blocked!r}))
import anyio
import openai_compat
from openai_compat.http import HttpRequest

async def main():
    async def agent(prompt):
        yield "said " + prompt
    async def body():
        yield b'{{"model": "agent", "messages": [{{"role": "user", "content": "hi"}}]}}'
    async def send(message):
        sent.append(message)
    sent = []
    request = HttpRequest("POST", "/v1/chat/completions", "", [(b"host", b"localhost")], body())
    await openai_compat.Server(agent).handle(request, send)
    print(json.loads(sent[1].data)["choices"][0]["message"]["content"])

anyio.run(main)
"""


def run(code: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_importing_loads_no_vendors_package_and_no_leaf_of_ours() -> None:
    code = "import json, sys; from openai_compat import *; print(json.dumps([*sys.modules]))"
    loaded = set(json.loads(run(code)))
    assert "pydantic" in loaded
    assert {name.partition(".")[0] for name in loaded} & {*VENDORS, "openai_compat_adapters"} == set()
    assert not [name for name in loaded if name.startswith(("openai_compat.backends", "openai_compat.testing"))]


def test_the_core_serves_where_nothing_but_its_own_dependencies_is_installed() -> None:
    assert run(SERVES.format(blocked=VENDORS)) == "said hi\n"


@pytest.mark.parametrize("module", ["events", "errors", "messages", "http"])
def test_a_public_module_can_be_imported_by_itself(module: str) -> None:
    run(f"import openai_compat.{module}")
