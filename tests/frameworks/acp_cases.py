"""Cases only for programs: processes, and capabilities that are known only at run time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from openai_compat import Server
from openai_compat.backends.acp import ACPBackend
from tests.frameworks.acceptance import in_memory, scenario, until  # noqa: F401  (a fixture)
from tests.frameworks.served import Served, client_of
from tests.transports import uvicorn_socket

CHILD = """
import os, subprocess, sys
child = subprocess.Popen(["sleep", "600"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
sys.stdin.read()
"""


def is_gone(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@scenario("leaving")
def test_a_program_is_ended_with_what_it_has_started(tmp_path: Path) -> None:
    told = tmp_path / "pids"
    agent = ACPBackend([sys.executable, "-c", CHILD, str(told)], grace=0.5)
    with uvicorn_socket(Server({"deaf": agent})) as url:
        client = client_of(url, "any")
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="deaf", messages=[{"role": "user", "content": "hi"}], timeout=3)
        until(told.exists)
        program, child = told.read_text().split()
        until(lambda: is_gone(program) and is_gone(child), 20)


@scenario("errors")
@pytest.mark.parametrize("command", [["/nonexistent/program"], [sys.executable, "-c", "pass"]], ids=["none", "ends"])
def test_a_program_that_is_not_there_or_has_ended_is_a_502(command: list[str]) -> None:
    with uvicorn_socket(Server({"none": ACPBackend(command)})) as url, pytest.raises(openai.APIStatusError) as caught:
        Served(url, client_of(url, "any")).chat("none", "hi")
    assert (caught.value.status_code, caught.value.code) == (502, "agent_command_failed")


@scenario("pictures")
def test_what_the_program_does_not_take_is_a_400(in_memory: Served) -> None:  # noqa: F811  (a fixture)
    parts: Any = [{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}]
    with pytest.raises(openai.BadRequestError):
        in_memory.chat("plain", {"role": "user", "content": parts})


@scenario("one line")
def test_a_command_is_a_list_of_arguments() -> None:
    with pytest.raises(TypeError, match="one string"):
        ACPBackend("claude-agent-acp")
    with pytest.raises(ValueError, match="name of a program"):
        ACPBackend([])
