"""Requests that chat programs make for themselves: titles, tags, follow-up questions, memories.

They come beside the user's first message, several at once. An agent must not act on them, they must not take its
slots, and they are no part of a conversation. They are told by the words that these programs send, read in the sources
of Open WebUI 0.12, LibreChat, opencode 1.18 and qwen-code, or by an `X-Task` header (Open WebUI can be told to send
one).
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

from ..backend import AgentRequest
from ..http import HttpRequest
from ..messages import SystemMessage

Task: TypeAlias = Literal["title", "tags", "follow_ups", "queries", "autocomplete", "memory", "other"]
Answer: TypeAlias = Callable[[Task, AgentRequest], str | Awaitable[str]]

TITLE_LENGTH = 48
"""Characters of a title made from the user's first words."""

_HEADER_TASKS: dict[str, Task] = {
    "title_generation": "title",
    "tags_generation": "tags",
    "follow_up_generation": "follow_ups",
    "query_generation": "queries",
    "autocomplete_generation": "autocomplete",
}

_SIGNS: tuple[tuple[Task, re.Pattern[str]], ...] = (
    # Open WebUI: one user message, "### Task:" first and "### Output:" later on
    ("title", re.compile(r"\A### Task:\n.*\btitle\b.*### (?:Output|Guidelines):", re.DOTALL | re.IGNORECASE)),
    ("tags", re.compile(r"\A### Task:\n.*\btags\b.*### (?:Output|Guidelines):", re.DOTALL | re.IGNORECASE)),
    (
        "follow_ups",
        re.compile(r"\A### Task:\n.*\bfollow[-_ ]ups?\b.*### (?:Output|Guidelines):", re.DOTALL | re.IGNORECASE),
    ),
    ("queries", re.compile(r"\A### Task:\n.*\bquer(?:y|ies)\b.*### (?:Output|Guidelines):", re.DOTALL | re.IGNORECASE)),
    ("autocomplete", re.compile(r"\A### Task:\n.*\bautocompletion\b", re.DOTALL | re.IGNORECASE)),
    ("other", re.compile(r"\A### Task:\n.*### Output:", re.DOTALL)),
    # LibreChat
    ("title", re.compile(r"\A(?:Please generate|Provide) a (?:concise|short),? .{0,40}\btitle\b", re.IGNORECASE)),
)
_TITLE_SYSTEM = re.compile(r"\AYou are a (?:title generator|conversation title)", re.IGNORECASE)
_MEMORY_SYSTEM = re.compile(
    r"\AYou are (?:a|an|now acting as)[^.\n]*\bmemory\b[^.\n]*\b(?:agent|extract|subagent)", re.IGNORECASE
)
_ASKED = re.compile(r"\A\s*Generate a title[^\n]*:\s*", re.IGNORECASE)
_HISTORY = re.compile(r"<chat_history>\s*(?:USER:\s*)?(.*?)(?:\n(?:ASSISTANT|USER):|</chat_history>)", re.DOTALL)


def task_of(http: HttpRequest, request: AgentRequest) -> Task | None:
    """Which chore this is, None if it is a request of a person."""
    header = http.header(b"x-task")
    if header:
        return _HEADER_TASKS.get(header, "other")
    prompt = request.prompt
    for task, sign in _SIGNS:
        if prompt.startswith(("###", "Please", "Provide")) and sign.search(prompt):
            return task
    first = request.messages[0]
    if isinstance(first, SystemMessage):
        if _TITLE_SYSTEM.match(first.text):
            return "title"
        if _MEMORY_SYSTEM.match(first.text):
            return "memory"
    return None


def cheap_answer(task: Task, request: AgentRequest) -> str:
    """What the program can do with, made without any model: a title from the user's own words, or nothing."""
    prompt = request.prompt
    wants_json = "json" in prompt.lower() or prompt.startswith("###")
    match task:
        case "title":
            title = _title(request)
            return json.dumps({"title": title}) if wants_json else title
        case "tags":
            return json.dumps({"tags": ["General"]})
        case "follow_ups":
            return json.dumps({"follow_ups": []})
        case "queries":
            return json.dumps({"queries": []})
        case "autocomplete":
            return json.dumps({"text": ""})
        case "memory" | "other":
            return "{}" if wants_json else ""


def _title(request: AgentRequest) -> str:
    """The user's first words, found where each program puts the conversation it wants a title for."""
    history = _HISTORY.search(request.prompt)
    words = history[1] if history is not None else _ASKED.sub("", request.prompt)
    line = " ".join(words.strip().strip('"').split())
    return (line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…") or "New chat"


class Housekeeping:
    """Answers chores instead of the agent: with `answer`, or cheaply by itself. `answer` gets the task's name."""

    def __init__(self, answer: Answer = cheap_answer) -> None:
        self._answer = answer

    async def answer(self, http: HttpRequest, request: AgentRequest) -> str | None:
        """The text to answer with, None if `request` is no chore."""
        task = task_of(http, request)
        if task is None:
            return None
        text = self._answer(task, request)
        return await text if inspect.isawaitable(text) else text
