"""Targets of the command line, and the errors for wrong ones, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openai_compat import Server
from openai_compat_adapters._cli.load_agents import load
from openai_compat_adapters._cli.wrong_target import CannotLoad
from tests.requirements import requirement

Write = Callable[[str, str], Path]
AGENT = "def agent(prompt): return 'agent'\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes files below a folder beside the current one; their modules are removed at the end."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)

    def written(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    yield written
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def models(*targets: str) -> list[str]:
    loaded = load(targets)
    return list(loaded.services.models.agents if isinstance(loaded, Server) else loaded)


@requirement("cli.targets")
def test_a_file_is_served_wherever_it_is(write: Write) -> None:
    for name in ("here/bot.py", "above.py", "else/where/far.py", "else/my-agent.py", "else/v1.2/bot2.py"):
        file = write(name, AGENT)
        assert models(f"{file}:agent") == models(str(file)) == ["agent"]
    assert models("bot.py:agent") == models("./bot.py") == models("bot") == ["agent"]
    assert models("../above.py:agent") == models("../above.py") == ["agent"]
    assert models("mine=../above.py") == ["mine"]


@requirement("cli.targets")
def test_a_file_of_a_package_can_import_what_is_beside_it(write: Write) -> None:
    write("else/pack/__init__.py", "")
    write("else/pack/words.py", "WORD = 'hello'\n")
    file = write("else/pack/inner.py", "from .words import WORD\ndef agent(prompt): return WORD\n")
    write("else/plain.py", "import beside\nagent = beside.agent\n")
    write("else/beside.py", AGENT)
    assert models(str(file)) == models("../else/plain.py:agent") == ["agent"]


@requirement("cli.targets")
def test_two_files_of_one_name_are_two_modules(write: Write) -> None:
    one, two = write("one/bot.py", AGENT), write("two/bot.py", "def other(prompt): ...\n")
    stands = write("one/json.py", AGENT)
    assert models(f"a={one}:agent", f"b={two}:other", f"c={stands}:agent") == ["a", "b", "c"]


@requirement("cli.targets")
def test_a_file_named_as_a_module_that_is_imported_already_is_the_one_that_is_meant(write: Write) -> None:
    import token  # noqa: F401  (so that it is imported already)

    write("here/token.py", AGENT)
    assert models("token") == models("token:agent") == models("token.py") == ["agent"]


FOUND = {
    "a usual name": ("def helper(x): ...\ndef agent(prompt): ...\n", ["agent"]),
    "a mapping": ("def one(prompt): ...\ndef two(prompt): ...\nagents = {'a': one, 'b': two}\n", ["a", "b"]),
    "a server": (
        "from openai_compat import Server\ndef one(prompt): ...\nagents = {'a': one}\nserver = Server({'only': one})\n",
        ["only"],
    ),
    "a server of another name": (
        "from openai_compat import Server\ndef one(prompt): ...\nmain = Server({'only': one})\n",
        ["only"],
    ),
    "the only function": ("import json\nfrom pathlib import Path\ndef _help(x): ...\ndef bot(prompt): ...\n", ["bot"]),
    "the only class": ("class Bot:\n    def run(self, prompt): ...\n", ["Bot"]),
    "the only object": ("class _Bot:\n    def run(self, prompt): ...\nbot = _Bot()\n", ["bot"]),
    "the only one that takes something": ("def main(): ...\ndef bot(prompt): ...\n", ["bot"]),
    "the only one that can be an agent": ("def add(a, b): ...\ndef bot(prompt): ...\n", ["bot"]),
}


@requirement("cli.targets")
@pytest.mark.parametrize("name", FOUND)
def test_the_agent_of_a_file_is_found(write: Write, name: str) -> None:
    text, expected = FOUND[name]
    write("here/found.py", text)
    assert models("found.py") == models("found") == expected


NOT_FOUND = {
    "none": ("X = 1\n", r"There is no agent in 'found\.py': name one, as found\.py:agent\."),
    "several": (
        "def one(prompt): ...\ndef two(prompt): ...\n",
        r"'found\.py' has several that may be agents: one, two\. Say which: found\.py:one found\.py:two",
    ),
    "an application": (
        "async def app(scope, receive, send): ...\n",
        r"'found\.py' has an application, which runs by itself: uvicorn found:app\. Or name an agent, as found\.py:agent",
    ),
    "an application and its routes": (
        "async def app(scope, receive, send): ...\ndef hello(name: str): ...\n",
        r"'found\.py' has an application, which runs by itself: uvicorn found:app\. Or name an agent, as found\.py:hello",
    ),
    "one that the message cannot reach": (
        "def agent(*, text='x'): ...\n",
        r"'found\.py:agent' is not an agent: 'agent' has no parameter for the user's message: .*",
    ),
}


@requirement("cli.targets")
@pytest.mark.parametrize("name", NOT_FOUND)
def test_a_file_without_an_agent_to_choose_is_told_in_a_line(write: Write, name: str) -> None:
    text, message = NOT_FOUND[name]
    write("here/found.py", text)
    with pytest.raises(CannotLoad, match=f"^{message}$"):
        load(["found.py"])


@requirement("cli.targets")
@pytest.mark.parametrize("target", ["gone.py", "../gone.py:agent", "/nowhere/gone.py", "gone/"])
def test_a_file_that_is_not_there_is_told_by_its_path(write: Write, target: str) -> None:
    with pytest.raises(CannotLoad, match=r"^There is no file '[^']+', looked for from /\S+$"):
        load([target])
