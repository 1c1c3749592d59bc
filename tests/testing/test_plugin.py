"""The pytest plugin, as users run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.requirements import requirement

AGENTS = """
async def agent(prompt: str):
    yield "Hello, "
    yield prompt

async def broken(prompt: str):
    raise RuntimeError("always")
    yield

something = 3
"""
PYTEST = (
    *(sys.executable, "-m", "pytest", "--disable-plugin-autoload", "-p", "openai_compat_adapters.pytest_plugin"),
    *("-p", "no:cacheprovider", "--tb=short"),
)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*PYTEST, "--rootdir", str(folder), "-c", "/dev/null", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(AGENTS, "utf-8")
    (tmp_path / "test_own.py").write_text("def test_own() -> None:\n    pass\n", "utf-8")
    return tmp_path


def test_an_agent_is_checked_without_a_file_and_nothing_else_is_run(project: Path) -> None:
    result = run(project, "--openai-compat", "mine:agent", "-v")
    assert result.returncode == 0, result.stdout
    assert "mine:agent::TestConformance::test_a_stream_says_the_role_once_and_first PASSED" in result.stdout
    assert "test_own" not in result.stdout


@requirement("cli.targets")
def test_the_agent_of_a_file_is_found_wherever_the_file_is(project: Path) -> None:
    folder = project / "else"
    folder.mkdir()
    (folder / "beside.py").write_text("WORD = 'hello'\n", "utf-8")
    text = "import beside\ndef bot(prompt): return beside.WORD\n"
    (folder / "far.py").write_text(text, "utf-8")
    for target in ("else/far.py", str(folder / "far.py")):
        result = run(project, "--openai-compat", target, "-v", "-k", "role_once")
        assert result.returncode == 0, result.stdout
        assert "1 passed" in result.stdout


def test_paths_are_run_beside_the_agent_when_they_are_given(project: Path) -> None:
    result = run(project, "--openai-compat", "mine:agent", "test_own.py", "-v", "-k", "test_own or role_once")
    assert result.returncode == 0, result.stdout
    assert "test_own.py::test_own PASSED" in result.stdout
    assert "2 passed" in result.stdout


def test_a_failure_says_what_it_means_and_how_to_mend_it(project: Path) -> None:
    result = run(project, "--openai-compat", "mine:broken", "-k", "says_the_role")
    assert result.returncode == 1
    assert "answered with status 500" in result.stdout
    assert "what it means" in result.stdout
    assert 'Put `"role": "assistant"` into the first delta, and into no other.' in result.stdout


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mine:missing", "\n--openai-compat mine:missing: Module 'mine' has no attribute 'missing'."),
        ("nowhere:agent", "\n--openai-compat nowhere:agent: There is no module 'nowhere', neither in "),
        ("gone.py", "\n--openai-compat gone.py: There is no file 'gone.py', looked for from "),
        ("gone.toml", "\n--openai-compat gone.toml: "),
        ("mine:something", "not 3"),
    ],
)
def test_a_wrong_name_is_an_error_that_says_so(project: Path, target: str, message: str) -> None:
    result = run(project, "--openai-compat", target)
    assert result.returncode != 0
    assert message in result.stdout + result.stderr
    assert "INTERNALERROR" not in result.stdout + result.stderr


def test_a_subclass_in_a_file_is_collected_like_any_test(project: Path) -> None:
    (project / "test_mine.py").write_text(
        "from mine import agent as mine\n"
        "from openai_compat.testing import Conformance\n\n"
        "class TestMine(Conformance):\n"
        "    agent = mine\n\n"
        "class TestMadeInAMethod(Conformance):\n"
        "    def agent(self):\n"
        "        return mine\n",
        "utf-8",
    )
    result = run(project, "test_mine.py", "-v", "-k", "finish_reason")
    assert result.returncode == 0, result.stdout
    assert "TestMine::test_a_stream_says_one_finish_reason_and_says_it_last PASSED" in result.stdout
    assert "TestMadeInAMethod::test_a_stream_says_one_finish_reason_and_says_it_last PASSED" in result.stdout


def test_the_fixtures_serve_and_compare(project: Path) -> None:
    (project / "test_golden.py").write_text(
        "from mine import agent\n"
        "from openai_compat.testing import Recording\n\n"
        "def test_hello(served, golden):\n"
        "    recording = Recording()\n"
        "    up = served(agent, recording=recording)\n"
        "    messages = [{'role': 'user', 'content': 'Bob'}]\n"
        "    answer = up.client.chat.completions.create(model='agent', messages=messages)\n"
        "    assert answer.choices[0].message.content == 'Hello, Bob'\n"
        "    golden(recording)\n",
        "utf-8",
    )
    missing = run(project, "test_golden.py")
    written = run(project, "test_golden.py", "--openai-compat-update")
    compared = run(project, "test_golden.py")
    (project / "mine.py").write_text(AGENTS.replace("yield prompt", 'yield prompt\n    yield ""'), "utf-8")
    same = run(project, "test_golden.py")
    assert [r.returncode for r in (missing, written, compared, same)] == [1, 0, 0, 0], compared.stdout
    assert '"content": "Hello, Bob"' in (project / "golden" / "test_hello.json").read_text("utf-8")


def test_the_plugin_imports_nothing_of_ours_until_it_is_used(project: Path) -> None:
    (project / "test_light.py").write_text(
        "import sys\n\n"
        "def test_light():\n"
        "    heavy = {'openai', 'pydantic', 'httpx2', 'hypothesis', 'openai_compat'} & set(sys.modules)\n"
        "    assert not heavy\n",
        "utf-8",
    )
    result = run(project, "test_light.py")
    assert result.returncode == 0, result.stdout


def test_the_kit_needs_neither_pytest_nor_an_sdk_until_they_are_used() -> None:
    code = (
        "import sys, openai_compat.testing\n"
        "found = {'pytest', 'openai', 'httpx2', 'hypothesis', 'starlette'} & set(sys.modules)\n"
        "sys.exit(str(found) if found else 0)\n"
    )
    result: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 0, result.stderr
