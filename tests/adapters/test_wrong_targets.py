"""Wrong targets of serve and chat fail with one line and exit code 2; and the default targets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openai_compat_adapters._cli import serve_command
from tests.adapters.in_process import invoke, working_in, would_serve
from tests.requirements import requirement

Write = Callable[[str, str], None]
FILES = {
    "agent.py": "def agent(prompt): return prompt\n",
    "two.py": "def researcher(prompt): ...\ndef payer(prompt): ...\n",
    "empty.py": "",
    "site.py": "async def app(scope, receive, send): ...\ndef page(name: str): ...\n",
    "odd.py": "class Odd: ...\nodd = Odd()\nteam = {odd: print}\nbad = {'a': odd}\nnone = None\nlocal = [odd]\n",
    "loud.py": "raise ValueError(f'first\\nsecond {object()}')\n",
    "deep.py": "import json\njson.loads('{')\n",
    "mute.py": "raise RuntimeError\n",
    "other/far.py": "async def app(scope, receive, send): ...\n",
    "other/fails.py": "import json\njson.loads('{')\n",
    "script.py": "def main(): ...\n",
    "notes.txt": "x",
    "broken.toml": "x = = 1\n",
}

WRONG: dict[str, str] = {
    "": "Say which module: module:attr, such as hello:agent.",
    ":agent": "Say which module: module:attr, such as hello:agent.",
    "agent.py:": "'agent:' is not of the form module:attr, such as hello:agent.",
    "agent.py:agnt": "Module 'agent' has no attribute 'agnt'. Did you mean 'agent'?",
    "agent.py::agent": "Module 'agent' has no attribute ':agent'. Did you mean 'agent'?",
    "agnet.py": "There is no file 'agnet.py', looked for from HERE. Did you mean 'agent.py'?",
    "agnet": "There is no module 'agnet', neither in HERE nor installed. Did you mean 'agent'?",
    "../nowhere.py:agent": "There is no file '../nowhere.py', looked for from HERE.",
    "/nowhere/agent.py": "There is no file '/nowhere/agent.py', looked for from HERE.",
    "other": "'other' is a folder without __init__.py: name a file in it, such as other/agent.py.",
    "./other/": "'./other/' is a folder without __init__.py: name a file in it, such as ./other/agent.py.",
    ".": "'.' is a folder without __init__.py: name a file in it, such as ./agent.py.",
    "notes.txt": "'notes.txt' is no Python file (.py), and no file that describes agents (.toml).",
    "two.py": "'two.py' has several that may be agents: researcher, payer. Say which: two.py:researcher two.py:payer",
    "empty": "There is no agent in 'empty': name one, as empty:agent.",
    "site.py": "'site.py' has an application, which runs by itself: uvicorn site:app. Or name an agent, as site.py:page",
    "other/far.py": "'other/far.py' has an application, which runs by itself: uvicorn --app-dir HERE/other far:app. "
    "Or name an agent, as other/far.py:agent",
    "odd:odd": "'odd:odd' is not an agent: …, not an Odd.",
    "odd:Odd": "'odd:Odd' is not an agent: 'Odd' is a class whose objects have no run method, so they are no agents.",
    "script.py": "There is no agent in 'script.py': name one, as script.py:agent.",
    "token": "'token' is a module of Python itself, and there is no token.py in HERE.",
    "odd:local": "'odd:local' is not an agent: …, not a list.",
    "odd:none": "'odd:none' is not an agent: …, not None.",
    "odd:bad": "'odd:bad['a']' is not an agent: …, not an Odd.",
    "odd:team": "'odd:team' is a mapping whose keys are not all text: they are the names of its agents.",
    "x=odd:bad": "'odd:bad' is a mapping, which has names for its agents: leave 'x=' out.",
    "loud.py": "Importing 'loud' failed: ValueError: first second <object object> (loud.py, line 1)",
    "mute.py": "Importing 'mute' failed: RuntimeError (mute.py, line 1)",
    "other/fails.py": "Importing 'fails' failed: JSONDecodeError: … (fails.py, line 2)",
    "broken.toml": "…broken.toml…",
    "gone.toml": "…gone.toml…",
    "sys:zzzz": "Module 'sys' has no attribute 'zzzz'.",
    "http://127.0.0.1:8083": "'http://127.0.0.1:8083' is a URL, where something is served already: "
    "openai-compat chat --url http://127.0.0.1:8083",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes files below the current directory, which is empty. Valid targets are not served."""
    monkeypatch.setattr(
        serve_command, "run", lambda server, *_: f"it would serve {list(server.services.models.agents)}"
    )

    def written(name: str, text: str) -> None:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    with working_in(tmp_path, monkeypatch):
        yield written


@requirement("cli.targets")
@pytest.mark.parametrize("target", WRONG)
def test_a_wrong_target_is_told_in_one_line(write: Write, tmp_path: Path, target: str) -> None:
    for name, text in FILES.items():
        write(name, text)
    expected = re.escape(f"Error: {WRONG[target]}\n".replace("HERE", str(tmp_path))).replace("…", ".*")
    for command in (["serve"], ["chat", "-m", "hi"]):
        result = invoke(*command, target)
        assert re.fullmatch(expected, result.output), result.output
        assert result.exit_code == 2
        assert " at 0x" not in result.output


NOTHING = (
    "There is no openai-compat.toml here, no 'serve' in [tool.openai-compat] of pyproject.toml, and no agent.py.\n"
)


@requirement("cli.defaults")
@pytest.mark.parametrize(
    ("command", "asks"),
    [
        ("serve", "Say what to serve: agent.py, MODULE:ATTR or FILE.toml."),
        ("chat", "Say whom to talk to: agent.py, MODULE:ATTR, FILE.toml, or --url."),
    ],
)
def test_where_nothing_is_named_and_nothing_is_there_it_says_what_it_looked_for(
    write: Write, command: str, asks: str
) -> None:
    write("pyproject.toml", "[project]\nname = 'mine'\n")
    result = invoke(command)
    assert result.exit_code == 2
    assert result.output.endswith(f"Error: {asks} {NOTHING}")


@requirement("cli.defaults")
def test_where_nothing_is_named_the_team_file_comes_first_then_the_project_then_agent_py(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def served() -> list[str]:
        return list(would_serve(monkeypatch).server.services.models.agents)

    write("agent.py", "def agent(prompt): return 'of agent.py: ' + prompt\n")
    assert served() == ["agent"]
    assert invoke("chat", "-m", "hi").output == "of agent.py: hi\n"
    write("pyproject.toml", "[tool.openai-compat]\nserve = 'mine=agent.py'\n")
    assert served() == ["mine"]
    write("src/bots.py", "def one(prompt): ...\ndef two(prompt): ...\n")
    write("pyproject.toml", "[tool.openai-compat]\nserve = ['src/bots.py:one', 'second=src/bots.py:two']\n")
    assert served() == ["one", "second"]
    write("openai-compat.toml", "[agents.team]\nagent = 'agent:agent'\n")
    assert served() == ["team"]


@requirement("cli.defaults")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = = 1", "'pyproject.toml' is not TOML: …."),
        ("tool.openai-compat = 3", "'tool.openai-compat' in pyproject.toml is not a table."),
        (
            "[tool.openai-compat]\nserves = 'agent.py'",
            "[tool.openai-compat] in pyproject.toml has 'serve' only, not 'serves'.",
        ),
        *[
            (
                f"[tool.openai-compat]\nserve = {value}",
                "'serve' in [tool.openai-compat] of pyproject.toml is not a target, such as agent.py, or a list.",
            )
            for value in ("3", "{a = 'agent.py'}", "['agent.py', 3]", "['']")
        ],
        ("[tool.openai-compat]\nserve = ['gone.py']", "There is no file 'gone.py', looked for from …"),
    ],
)
def test_a_wrong_project_file_is_told_in_one_line(write: Write, text: str, message: str) -> None:
    write("agent.py", FILES["agent.py"])
    write("pyproject.toml", text)
    result = invoke("serve")
    assert re.fullmatch(re.escape(f"Error: {message}\n").replace("…", ".*"), result.output), result.output
    assert result.exit_code == 2
