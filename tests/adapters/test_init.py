"""`openai-compat init`: what it writes runs, and nothing is overwritten. Those of frameworks run in tests/frameworks."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from openai_compat.testing import ScriptedModel
from openai_compat_adapters._cli.init_command import FOLDER, TEMPLATES
from openai_compat_adapters._cli.load_agents import as_server, load
from openai_compat_adapters.client import sync_openai
from openai_compat_adapters.testing import listening
from tests.adapters.in_process import invoke, working_in
from tests.frameworks.table import names
from tests.requirements import requirement

SAYS = {"function": "You said: Hi there", "command": "HI THERE", "openai": "Good day.", "anthropic": "Good day."}


@requirement("cli.init")
@pytest.mark.parametrize("name", SAYS)
def test_what_it_writes_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with listening(ScriptedModel(["Good day."])) as url, working_in(tmp_path, monkeypatch):
        for variable, value in {"BASE_URL": url, "API_KEY": "any"}.items():
            monkeypatch.setenv(f"ANTHROPIC_{variable}", value)
            monkeypatch.setenv(f"OPENAI_{variable}", f"{url}/v1" if variable == "BASE_URL" else value)
        told = invoke("init", "--with", name)
        assert (told.exit_code, "openai-compat serve agent.py" in told.output) == (0, True)
        with sync_openai(as_server(load(["agent.py"]))) as client:
            said = client.responses.create(model="agent", input="Hi there").output_text
    assert said == SAYS[name]


def test_there_is_one_for_each_framework_that_has_a_backend_and_its_name_is_the_extra() -> None:
    extras = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert {file.stem for file in FOLDER.iterdir() if file.suffix == ".py"} == TEMPLATES.keys()
    assert {name.replace("_", "-") for name in names()} == TEMPLATES.keys() - SAYS.keys()
    assert {name for name, template in TEMPLATES.items() if template.package} <= extras.keys()


@requirement("cli.init")
def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agent.py").write_text("mine")
    for arguments in ([], ["."], ["agent.py"], [str(tmp_path)]):
        told = invoke("init", *arguments)
        assert told.exit_code == 1
        assert "agent.py' is there already, and stays as it is: name another file" in told.output
    assert (tmp_path / "agent.py").read_text() == "mine"
    assert invoke("init", "--list").exit_code == 0
    assert [file.name for file in tmp_path.iterdir()] == ["agent.py"]


@requirement("cli.init")
def test_it_writes_where_it_is_told_to_and_tells_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for argument, file in {"bots/one": "bots/one/agent.py", "my bots/two.py": "my bots/two.py"}.items():
        told = invoke("init", argument).output
        assert (tmp_path / file).read_text() == (FOLDER / "function.py").read_text()
        assert f"openai-compat chat {repr(file) if ' ' in file else file} " in told


@requirement("cli.init")
def test_it_tells_of_what_is_not_installed_and_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    adk, bare = invoke("init", "adk.py", "--with", "google-adk").output, invoke("init", "--with", "openai").output
    assert "pip install 'openai-compat[cli,google-adk]'" in adk
    assert "it needs no key" in adk
    assert "It needs OPENAI_API_KEY in the environment." in bare
    assert "pip install" not in bare
    listed = invoke("init", "--list").output.splitlines()
    assert [line.split()[0] for line in listed] == list(TEMPLATES)
