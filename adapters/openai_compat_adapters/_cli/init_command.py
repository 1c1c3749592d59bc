"""`openai-compat init`: writes a starter agent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from openai_compat.package import is_installed

FOLDER = Path(__file__).with_name("templates")
"""The templates, which are copied verbatim; the documentation shows the same files."""

AGENT_FILE = "agent.py"


@dataclass(frozen=True, slots=True)
class Template:
    """Template of an agent file: its description, the package it needs, and other requirements."""

    about: str
    package: str = ""
    wants: str = ""


TEMPLATES = {
    "function": Template("a plain function, the shortest possible agent"),
    "command": Template("a program that runs once per turn: Claude Code, Codex, or any other"),
    "openai": Template(
        "a model from OpenAI, or from any server with its API", "openai", "OPENAI_API_KEY in the environment"
    ),
    "anthropic": Template("a Claude model", "anthropic", "ANTHROPIC_API_KEY in the environment"),
    "a2a": Template("a remote agent that speaks A2A", "a2a", "your remote agent's URL, set in the file"),
    "acp": Template("a program that speaks ACP", "acp", "the program claude-agent-acp, or another one set in the file"),
    "agent-framework": Template("a Microsoft Agent Framework agent", "agent_framework"),
    "agno": Template("an Agno agent", "agno"),
    "claude-agent-sdk": Template(
        "a Claude Agent SDK agent",
        "claude_agent_sdk",
        "ANTHROPIC_API_KEY in the environment, or a Claude Code login",
    ),
    "google-adk": Template("a Google ADK agent", "google.adk"),
    "haystack": Template("a Haystack agent", "haystack"),
    "langgraph": Template("a LangChain agent, which is a LangGraph graph", "langchain"),
    "llama-index": Template("a LlamaIndex agent", "llama_index"),
    "openai-agents": Template("an OpenAI Agents SDK agent", "agents"),
    "pydantic-ai": Template("a Pydantic AI agent", "pydantic_ai"),
    "smolagents": Template("a smolagents agent", "smolagents"),
    "strands": Template("a Strands agent", "strands"),
}
"""Templates by the value of `--with`, which is also the name of the extra if there is a package. Templates without `wants` run
as they are: a stand-in replaces the model."""


def list_templates() -> str:
    """List the templates, one per line."""
    width = max([len(name) for name in TEMPLATES])
    lines = [
        f"{name:{width}}  {template.about}{f'; needs {template.wants}' if template.wants else ''}"
        for name, template in TEMPLATES.items()
    ]
    return "\n".join(lines)


def write_template(path: str, name: str) -> str:
    """Write a template to a file, or to agent.py in a folder. Returns the next steps.

    Raises click.ClickException if the file exists or cannot be written.
    """
    file = Path(path)
    if file.suffix != ".py" or file.is_dir():
        file /= AGENT_FILE
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write((FOLDER / f"{name}.py").read_text("utf-8"))
    except FileExistsError as error:
        text = f"'{error.filename}' is there already, and stays as it is: name another file, as openai-compat init other.py."
        raise click.ClickException(text) from error
    except OSError as error:
        raise click.ClickException(f"'{file}' cannot be written: {error.strerror}.") from error
    return _next_steps(file, name)


def _next_steps(file: Path, name: str) -> str:
    template = TEMPLATES[name]
    lines = [f"{file} contains {template.about}."]
    if template.wants:
        lines.append(f"It needs {template.wants}.")
    elif template.package:
        lines.append("A stand-in replaces the model, so it needs no key. Set your own model in the file.")
    shown = f"'{file}'" if " " in str(file) else f"{file}"
    commands = {
        f"openai-compat serve {shown}": "serve it to any OpenAI client",
        f"openai-compat chat {shown}": "chat with it in this terminal",
    }
    if template.package and not is_installed(template.package):
        commands = {f"pip install 'openai-compat[cli,{name}]'": "install this first", **commands}
    width = max([len(command) for command in commands])
    return "\n".join([*lines, "", *[f"  {command:{width}}  {why}" for command, why in commands.items()]])
