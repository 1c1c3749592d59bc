"""Housekeeping requests that chat programs make for their own use: titles, tags, follow-up questions, memories.

They come beside the user's messages, several at once. An agent must not act on them, they must not take its slots, and
they do not belong to a conversation. They are recognised by the start of their prompts, as read in the sources of Open
WebUI 0.12, LibreChat 0.8, opencode 1.18 and qwen-code, and as observed from Claude Code 2.1, or by an `X-Task` header
(which Open WebUI can be configured to send).

Requests to compact a conversation that has become too long are not included: the answer replaces the conversation, so
only the agent can give it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, TypeAlias

from ..agent_request import AgentRequest
from ..http import HttpRequest
from ..messages import Message, SystemMessage, UserMessage

Task: TypeAlias = Literal[
    "title",
    "tags",
    "follow_ups",
    "queries",
    "autocomplete",
    "emoji",
    "image_prompt",
    "tools",
    "memory",
    "recall",
    "next_speaker",
    "summary",
    "other",
]
"""The kind of housekeeping request. Beyond Open WebUI's kinds: `tools` selects tools that Open WebUI then runs, `memory`
extracts facts to remember, `recall` selects the memories that matter now, `next_speaker` asks whose turn it is,
`summary` is a line about recent work."""

Answer: TypeAlias = Callable[[Task, AgentRequest], str | Awaitable[str]]

TITLE_LENGTH = 48
"""Maximum length of a title made from the user's first words, in characters."""

CLAUDE_CODE = "You are Claude Code, Anthropic's official CLI for Claude."
"""Start of the instructions of every Claude Code request, including its housekeeping."""

SESSION, SESSION_END = "<session>", "</session>"
"""Delimiters of the user's words in Claude Code's title requests."""

OPENING_LENGTH = 400
"""Characters at the start of a prompt that are searched for a known opening."""

_HEADER_TASKS: dict[str, Task] = {
    "title_generation": "title",
    "tags_generation": "tags",
    "follow_up_generation": "follow_ups",
    "query_generation": "queries",
    "autocomplete_generation": "autocomplete",
    "emoji_generation": "emoji",
    "image_prompt_generation": "image_prompt",
    "function_calling": "tools",
}

_TASKS_FOR_PEOPLE = frozenset(["moa_response_generation"])
"""Tasks whose answer a person sees: Open WebUI's button that merges several models' answers into one."""

_MESSAGE_OPENINGS: Mapping[str, Task] = {
    # Open WebUI
    "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history": "title",
    "### Task:\nGenerate a concise title summarizing the chat history": "title",
    "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history": "tags",
    "### Task:\nSuggest 3-5 relevant follow-up questions or prompts that the user might naturally ask": "follow_ups",
    "### Task:\nPredict 3-5 useful messages this user might naturally send next to advance": "follow_ups",
    "### Task:\nAnalyze the chat history to determine the necessity of generating search queries": "queries",
    "### Task:\nYou are an autocompletion system. Continue the text in `<text>` based on": "autocomplete",
    # "am" is Open WebUI's spelling
    "### Task:\nGenerate a detailed prompt for am image generation task based on the given": "image_prompt",
    "Your task is to reflect the speaker's likely facial expression through a fitting emoji.": "emoji",
    # LibreChat
    "Provide a concise, 5-word-or-less title for the conversation, using title case conventions.": "title",
    "Analyze this conversation and provide:\n1. The detected language of the conversation": "title",
    "Please generate a concise, 5-word-or-less title for the conversation, using its same language": "title",
    "Please generate a concise title (max 40 characters) for a conversation that starts with:": "title",
    # qwen-code
    "Analyze *only* the content and structure of your immediately preceding response": "next_speaker",
    # also Claude Code
    "[SUGGESTION MODE: Suggest what the user might naturally type next": "follow_ups",
    # Claude Code
    "Generate a short kebab-case name (2-4 words) that captures the main topic of this conversation.": "title",
    "2-4 word lowercase label for this job.": "title",
    "The user stepped away and is coming back. Recap in under 40 words": "summary",
    "Describe your most recent action in 3-5 words using present tense": "summary",
}
"""Task by the start of the last message."""

_INSTRUCTION_OPENINGS: Mapping[str, Task] = {
    # opencode
    "You are a title generator. You output ONLY a thread title.": "title",
    # qwen-code
    "Generate a concise, sentence-case title (3-7 words) that captures what this programming-assistant": "title",
    "You generate session recaps for a programming assistant CLI.": "summary",
    # also Claude Code
    "Write a short summary label describing what these tool calls accomplished.": "summary",
    # Claude Code
    "You are naming a coding session so the user can pick it out of a long list of sessions.": "title",
    "You write a 3-5 word progress label for a background agent": "summary",
    "You are now acting as the managed memory extraction subagent": "memory",
    "You are performing a managed memory dream": "memory",
    "You are selecting memories that will be useful to an AI coding assistant": "recall",
}
"""Task by the start of the instructions."""

_TOOLS = "Available Tools: ", "choose and return the correct tool(s) from the list of available tools"
"""Start and later text of Open WebUI's instructions for selecting tools ("legacy" function calling)."""

_PICKS = ("Query: ", "History:\n")
"""Starts of the message for which Open WebUI selects tools."""

_KEYS: tuple[tuple[str, Task], ...] = (
    ('"follow_ups"', "follow_ups"),
    ('"title"', "title"),
    ('"tags"', "tags"),
    ('"queries"', "queries"),
)
"""Task by the JSON key that an Open WebUI template requests: Open WebUI reads these keys, whatever the other wording."""

_WORDS: tuple[tuple[str, Task], ...] = (
    ("title", "title"),
    ("tag", "tags"),
    ("follow", "follow_ups"),
    ("quer", "queries"),
    ("image", "image_prompt"),
)
"""Task by a word in the first line of an administrator's own Open WebUI template."""

_SPEAKERS = frozenset(["user", "assistant", "ai", "response", "title"])
"""Words before a colon that mark a new speaker."""

_TITLE_OPENING = "generate a title"

SEARCHED_LENGTH = 100_000
"""Characters at the start and at the end of a prompt that are searched for the user's words."""


def task_of(http: HttpRequest, request: AgentRequest) -> Task | None:
    """Return the housekeeping task of a request, or None for a person's request."""
    # Tool results continue a turn of the agent, so they are never housekeeping.
    if request.resume is not None or not (request.plain or request.messages):
        return None
    header = http.header(b"x-task") if b"x-task" in http.first else None
    if header:
        return None if header in _TASKS_FOR_PEOPLE else _HEADER_TASKS.get(header, "other")
    if request.plain and not _may_be_housekeeping(request):
        return None
    first, last = request.messages[0], request.messages[-1]
    if isinstance(first, SystemMessage):
        task = _task_by_opening(first, _INSTRUCTION_OPENINGS)
        if task is not None:
            return task
        if first.text.startswith(_TOOLS[0]) and _TOOLS[1] in first.text and last.text.startswith(_PICKS):
            return "tools"
    # A housekeeping prompt may also be the only message, with the system role.
    if isinstance(last, UserMessage) or last is first:
        return _task_by_opening(last, _MESSAGE_OPENINGS) or _task_by_template(last)
    return None


_OPENINGS = (*_MESSAGE_OPENINGS, *_INSTRUCTION_OPENINGS, "### Task:", CLAUDE_CODE, _TOOLS[0])


def _may_be_housekeeping(request: AgentRequest) -> bool:
    """False for nearly all requests, which then need no typed messages."""
    messages = request.raw_messages
    found = False
    for message in messages if len(messages) == 1 else (messages[0], messages[-1]):
        found = found or (message["content"] or "")[:OPENING_LENGTH].lstrip().startswith(_OPENINGS)
    return found


def _task_by_opening(message: Message, openings: Mapping[str, Task]) -> Task | None:
    beginning = message.text[:OPENING_LENGTH].lstrip().removeprefix(CLAUDE_CODE).lstrip()
    return next((task for opening, task in openings.items() if beginning.startswith(opening)), None)


def _task_by_template(message: Message) -> Task | None:
    """Recognise Open WebUI's frame around an administrator's own template."""
    text = message.text
    if not text.startswith("### Task:") or not text.rstrip().endswith("</chat_history>"):
        return None
    asked = text.partition("<chat_history>")[0]
    for key, task in _KEYS:
        if key in asked:
            return task
    wanted = asked[len("### Task:") :].lstrip().partition("\n")[0].lower()
    for word, task in _WORDS:
        if word in wanted:
            return task
    return "other"


_FIXED_ANSWERS: Mapping[Task, str] = {
    "tags": json.dumps({"tags": ["General"]}),
    "autocomplete": json.dumps({"text": ""}),
    "tools": json.dumps({"tool_calls": []}),
    "recall": json.dumps({"selected_memories": []}),
    "next_speaker": json.dumps({"reasoning": "The turn is over.", "next_speaker": "user"}),
    "memory": "Nothing to remember.",
}
"""Fixed answers, whatever the conversation; for tasks not listed here, the programs cope with an empty answer."""


def cheap_answer(task: Task, request: AgentRequest) -> str:
    """Return an answer that the program can use, made without a model: the user's own words, or nothing."""
    match task:
        case "title":
            line = " ".join(_user_texts(request)[0].strip().strip('"').split())
            title = (line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…") or "New chat"
            return json.dumps({"title": title}) if _wants_json(request) else title
        case "follow_ups":
            return json.dumps({"follow_ups": []}) if _wants_json(request) else ""
        case "queries":
            return json.dumps({"queries": [_user_texts(request)[-1]]})
        case _:
            return _FIXED_ANSWERS.get(task, "")


def _wants_json(request: AgentRequest) -> bool:
    """True if the program expects JSON: Open WebUI always does, others say so."""
    first = request.messages[0]
    told = isinstance(first, SystemMessage) and "JSON" in first.text
    return told or request.response_format is not None or request.prompt.startswith("### Task:")


def _user_texts(request: AgentRequest) -> list[str]:
    """Return the user's messages, at least one, from wherever the program puts the conversation."""
    text = request.prompt or request.messages[0].text
    # The prompt comes from a stranger and may be megabytes; a title only needs its start or its end.
    if len(text) > 2 * SEARCHED_LENGTH:
        text = f"{text[:SEARCHED_LENGTH]}\n{text[-SEARCHED_LENGTH:]}"
    if text.startswith(SESSION):
        text = text.removeprefix(SESSION).partition(SESSION_END)[0]
    said: list[list[str]] = []
    speaks = False
    for line in text.replace("||>", "\n").replace("</chat_history>", "\nresponse:").split("\n"):
        speaker, colon, words = line.strip().partition(":")
        if colon and speaker.lower() in _SPEAKERS:
            speaks = speaker.lower() == "user"
            said += [[words]] if speaks else []
        elif speaks:
            said[-1].append(line)
    return [words for lines in said if (words := "\n".join(lines).strip())] or [_without_opening(text.lstrip())]


def _without_opening(text: str) -> str:
    """Remove opencode's opening line before the words that need a title."""
    line, newline, rest = text.partition("\n")
    opening, _, words = line.rpartition(":")
    return (words + newline + rest).lstrip() if opening.lower().startswith(_TITLE_OPENING) else text


class Housekeeping:
    """Answers housekeeping requests instead of the agent, with `answer(task, request)`; by default without a model."""

    def __init__(self, answer: Answer = cheap_answer) -> None:
        self._answer = answer

    async def answer(self, task: Task, request: AgentRequest) -> str:
        """Return the answer to a request that `task_of` recognised."""
        text = self._answer(task, request)
        return await text if inspect.isawaitable(text) else text
