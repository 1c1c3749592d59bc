"""Runs the code blocks of a page as a reader would: in order, in one folder.

    ```python                     runs; its names are available to the blocks after it
    ```python title="agent.py"    is also written to the folder
    ```sh                         its commands run in the folder, unless they match ELSEWHERE
    ```text title="prints"        the output of the block before it, where … matches anything; without it, there must be none
    ```json, ```toml              must parse; toml with a title is also written to the folder
    ```text                       a drawing
    ```nginx, ```dockerfile, ```ini, ```yaml    files of examples/deploy, or parts of them: see tests/deploy
    ```js                         must parse, if node is installed

`postgresql://agents@db.internal/agents` is replaced by a test database.
Python that imports a package of OPTIONAL only has to compile if that is not installed; so do the blocks that build on it.
A command that serves is a block on its own, and keeps running beside the blocks after it. Ports are replaced by free ones.
`--8<-- "file"` is the file's text, as mkdocs inserts it.
"""

from __future__ import annotations

import dis
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from sybil import Document, Example, Region
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from tests.docs.served import PATIENCE, ROOT, Program, environment, free_port

INFO = re.compile(r"(?P<language>[^\n ]*) *(?P<attributes>[^\n]*)$\n", re.MULTILINE)
INCLUDE = re.compile(r'^ *--8<-- "([^"]+)"$', re.MULTILINE)
TITLE = re.compile(r'title="([^"]+)"')
IMPORTED = re.compile(r"^from (?:openai_compat\.backends\.)?(\w+)", re.MULTILINE)
OPTIONAL = (
    "a2a",
    "acp",
    "agent_framework",
    "agents",
    "agno",
    "claude_agent_sdk",
    "crewai",
    "google",
    "haystack",
    "langchain",
    "langchain_core",
    "langchain_openai",
    "langgraph",
    "llama_index",
    "pydantic_ai",
    "smolagents",
    "semantic_kernel",
    "strands",
)
NODE = shutil.which("node")
PRINTS = "prints"
ELSEWHERE = re.compile(
    r"^(?:\.?\w*venv/|\.nox/|(?:pip|uv|uvx|npm|npx|nox|docker|kubectl|python3|pg_dump|claude|codex) )|^[^#\n]+   *# ",
    re.MULTILINE,
)
"""Installations, checks and foreign programs (see test_commands.py), and alternatives: commands followed by a comment."""
SAYS_ITS_CODE = 'echo "exit code $?"'
"""The end of a command that serves nothing because it is refused."""
ADDRESS = re.compile(r"((?:127\.0\.0\.1|0\.0\.0\.0|localhost):|--port )(80\d\d|5000|11434)\b")
DATABASE = "postgresql://agents@db.internal/agents"
DEFAULT_PORTS = {"openai-compat serve": "8083", "uvicorn": "8000", "gunicorn": "8000", "flask": "5000"}
"""Programs that serve, with their default ports."""
OLLAMAS_PORT = "11434"
LISTEN = {"openai-compat": " --listen 127.0.0.1:{port}", "gunicorn": " --bind 127.0.0.1:{port}"}
"""Options that set the port of programs without `--port`."""
CLIENTS = ("OpenAI", "Anthropic")
"""Classes of blocking clients. Not imported, since the environments of tests/frameworks may lack their packages."""
LISTENS = re.compile(r"(?:--port |(?:--listen|-l|--bind) \S*?:)(\d+)\b")


class Page:
    """A folder with the files that the blocks of one page write, and the programs that they start."""

    def __init__(self, folder: Path, database: str = DATABASE) -> None:
        self.folder = folder
        self._database = database
        self._module = ModuleType("page")
        self.names: dict[str, Any] = vars(self._module)
        self._left_out: set[str] = set()
        self._ports: dict[str, str] = {}
        self._programs: dict[str, Program] = {}
        self._clients: list[Any] = []

    def close(self) -> None:
        # Pages do not close their clients. The garbage collector may find a connection before its client, which warns
        # of an open socket, in whichever test runs by then.
        for client in self._clients:
            client.close()
        for program in self._programs.values():
            program.stop()

    def parse(self, document: Document) -> Iterable[Region]:
        """Every block is an example; a block in an unknown language fails."""
        before: Region | None = None
        for region in RawFencedCodeBlockLexer(INFO)(document):
            region.parsed = region.lexemes["source"]
            region.evaluator = self._evaluate
            region.lexemes[PRINTS] = ""
            if _title(region) == PRINTS:
                assert before is not None, "nothing is run that would print it"
                assert before.lexemes["language"] == "sh", "only commands print"
                assert not document.text[before.end : region.start].strip(), "what is printed follows its command"
                before.lexemes[PRINTS] = region.parsed
            before = region
            yield region

    def _evaluate(self, example: Example) -> None:
        languages: dict[str, Callable[[str, Example], None]] = {
            "python": self._python,
            "sh": self._shell,
            "json": lambda source, _: json.loads(source),
            "toml": self._toml,
            "text": lambda source, _: None,
            "nginx": lambda source, _: None,
            "dockerfile": lambda source, _: None,
            "ini": lambda source, _: None,
            "yaml": lambda source, _: None,
            "js": lambda source, _: self._javascript(source),
        }
        source = INCLUDE.sub(lambda found: (ROOT / found[1]).read_text().rstrip("\n"), str(example.parsed))
        language = example.region.lexemes["language"]
        assert language in languages, f"no such language here: {language!r}"
        languages[language](source, example)

    def _python(self, source: str, example: Example) -> None:
        source = self._with_free_ports(source)
        title = _title(example.region)
        if title:
            (self.folder / title).write_text(source)
        if title and INCLUDE.search(str(example.parsed)):  # the source of its functions is not on the page
            code = compile(source, str(self.folder / title), "exec", dont_inherit=True)
        else:
            code = compile("\n" * (example.line + 1) + source, example.path, "exec", dont_inherit=True)
        if title.startswith("test_"):
            return
        if any(map(_is_missing, IMPORTED.findall(source))) or self._left_out & _names(code, "LOAD_NAME"):
            self._left_out |= _names(code, "STORE_NAME")
            return
        self.names["__name__"] = Path(title).stem if title else "page"
        name = self.names["__name__"]
        before, sys.modules[name] = sys.modules.get(name), self._module  # some packages look up their functions' module
        try:
            exec(code, self.names)  # imported modules stay in sys.modules, so only this name is restored
        finally:
            self._clients += [value for value in self.names.values() if type(value).__name__ in CLIENTS]
            del sys.modules[name]
            if before is not None:
                sys.modules[name] = before

    def _toml(self, source: str, example: Example) -> None:
        tomllib.loads(source)
        title = _title(example.region)
        if title:
            (self.folder / title).write_text(self._with_free_ports(source))

    def _javascript(self, source: str) -> None:
        if NODE is not None:
            (self.folder / "block.mjs").write_text(source)
            subprocess.run([NODE, "--check", "block.mjs"], cwd=self.folder, timeout=PATIENCE, check=True)

    def _shell(self, source: str, example: Example) -> None:
        if ELSEWHERE.search(source):
            return
        expected = example.region.lexemes[PRINTS]
        command = self._with_free_ports(source.rstrip("\n"))
        program = next((name for name in DEFAULT_PORTS if _program(command).startswith(name)), None)
        if program is None or "--help" in command or command.endswith(SAYS_ITS_CODE):
            _assert_like(self._as_written(self._run(command)), expected, command)
        else:
            self._serve(command, expected, DEFAULT_PORTS[program])

    def _run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=environment(COLUMNS="80"),
            timeout=4 * PATIENCE,  # some run a test suite
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.stdout.decode()

    def _serve(self, command: str, expected: str, default_port: str) -> None:
        if command.endswith(" --ollama"):
            default_port = OLLAMAS_PORT
        told = LISTENS.search(command)
        port = told[1] if told else self._port(default_port)
        if not told:
            command += LISTEN.get(_program(command).split()[0], " --port {port}").format(port=port)
        if port in self._programs:
            self._programs.pop(port).stop()
        program = self._programs[port] = Program(command, int(port), self.folder, environment())
        program.wait_until(program.listens)
        if expected:
            program.wait_until(lambda: _like(self._as_written(program.output), expected))

    def _with_free_ports(self, text: str) -> str:
        text = text.replace(DATABASE, self._database)
        return ADDRESS.sub(lambda found: found[1] + self._port(found[2]), text)

    def _as_written(self, text: str) -> str:
        for written, free in self._ports.items():
            text = text.replace(f":{free}", f":{written}")
        return text

    def _port(self, written: str) -> str:
        return self._ports.setdefault(written, str(free_port()))


def _is_missing(package: str) -> bool:
    if package == "google":  # a namespace package that other packages share
        package = "google.adk"
    return package.partition(".")[0] in OPTIONAL and find_spec(package) is None


def _names(code: CodeType, operation: str) -> set[str]:
    """Names that the code of a module binds (STORE_NAME) or uses (LOAD_NAME)."""
    return {step.argval for step in dis.get_instructions(code) if step.opname == operation}


def _title(region: Region) -> str:
    """The block's title, or an empty string."""
    title = TITLE.search(region.lexemes["attributes"])
    return title[1] if title else ""


def _program(command: str) -> str:
    """The command without the variable assignments in front of it."""
    return re.sub(r"^(\w+=\S* +)+", "", command)


def _like(output: str, expected: str) -> bool:
    pattern = re.escape(expected.strip()).replace("…", ".*?")
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


def _assert_like(output: str, expected: str, command: str) -> None:
    assert _like(output, expected), f"{command}\n--- expected\n{expected}\n--- got\n{output}"
