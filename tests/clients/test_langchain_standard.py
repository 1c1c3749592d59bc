"""ChatOllama and ChatAnthropic: LangChain's own standard tests of chat models, run against the server."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from openai_compat import Server
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.api.ollama import Ollama
from openai_compat_adapters.testing import listening
from tests.clients.obedient import obedient
from tests.clients.programs import HERE, need_python_packages
from tests.requirements import requirement

ONE_LOOP = (
    "asyncio_mode=auto",
    "asyncio_default_test_loop_scope=session",
    "asyncio_default_fixture_loop_scope=session",
)
"""ChatAnthropic keeps its HTTP client across tests."""


@requirement("ollama.sdk")
@requirement("anthropic.sdk")
@pytest.mark.timeout(300)  # installs the packages first
def test_langchains_standard_tests_pass_over_both_apis(tmp_path: Path) -> None:
    python = need_python_packages()
    options = [argument for option in ONE_LOOP for argument in ("-o", option)]
    # Run from another folder, without our pytest settings: the environment has other plugins.
    command = [
        str(python),
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        "--rootdir",
        str(tmp_path),
        "--noconftest",
        *options,
    ]
    selected = ["-p", "no:cacheprovider", "-k", "not override", str(HERE / "langchain_standard.py")]
    with listening(Server({"obedient": obedient}, apis=[Ollama(), AnthropicMessages()])) as url:
        done = subprocess.run(
            [*command, *selected],
            cwd=tmp_path,
            env={**os.environ, "SERVED_AT": url},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(done.stdout.splitlines()[-1].split(" passed")[0]) > 60, done.stdout
