"""Housekeeping requests of chat programs, and requests of people, which must not be mistaken for them.

The prompts are openings from the programs' sources: Open WebUI (backend/open_webui/config.py and
utils/task.py), LibreChat (its agents package and api/app/clients), opencode (agent/prompt/title.txt) and qwen-code
(packages/core/src: memory, services, utils/nextSpeakerChecker.ts).
"""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat import AgentRequest, Conversations, Housekeeping, Limits, Server
from openai_compat.agent_request import Caller
from openai_compat.http import HttpRequest
from openai_compat.policies.housekeeping import cheap_answer, task_of
from openai_compat.wire.chat.parse import parse_chat
from openai_compat.wire.responses.parse.request import parse_response
from openai_compat_adapters.websocket import connect as websocket
from tests.connecting import Connect, in_process
from tests.connecting import anyio_backend as anyio_backend
from tests.requirements import requirement
from tests.support.exchanges import one
from tests.support.operated import Recorder

EGG = "How do I boil an egg?"
HISTORY = f"### Chat History:\n<chat_history>\nUSER: {EGG}\nASSISTANT: In water.\n</chat_history>"
GUIDED = "\n### Guidelines:\n- Be brief.\n### Output:\nJSON format: {}\n" + HISTORY


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def system(text: str, asked: str = "", *before: Any) -> list[Any]:
    return [{"role": "system", "content": text}, *before, *(user(asked) if asked else [])]


OPEN_WEBUI = {
    "title": "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history." + GUIDED,
    "title, shorter": "### Task:\nGenerate a concise title summarizing the chat history." + GUIDED,
    "tags": "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history, along with" + GUIDED,
    "follow-ups": "### Task:\nSuggest 3-5 relevant follow-up questions or prompts that the user might naturally ask next"
    + GUIDED,
    "follow-ups, 0.12": "### Task:\nPredict 3-5 useful messages this user might naturally send next to advance their "
    "current objective." + GUIDED,
    "own template for follow-ups": "### Task:\nWas fragt sie wohl als Nächstes?\n### Output:\n"
    'JSON format: { "follow_ups": ["Eins?", "Zwei?"] }\n' + HISTORY,
    "queries": "### Task:\nAnalyze the chat history to determine the necessity of generating search queries, in the"
    + GUIDED,
    "autocomplete": "### Task:\nYou are an autocompletion system. Continue the text in `<text>` based on the\n"
    "<type>General</type>\n<text>Once upon</text>\n#### Output:\n",
    "image prompt": "### Task:\nGenerate a detailed prompt for am image generation task based on the given language"
    + GUIDED,
    "emoji": "Your task is to reflect the speaker's likely facial expression through a fitting emoji. Interpret"
    '\n\nMessage: """Hooray"""',
    "own template": "### Task:\nGib dem Gespräch einen Title.\n" + HISTORY,
    "own template for something else": "### Task:\nRate the mood.\n" + HISTORY,
}
PICK = system(
    'Available Tools: [{"name":"open_door","description":"\\n        Open a door.","parameters":{"properties":{"door":{}}}}'
    + ',{"name":"x"}' * 50
    + "]\n\nYour task is to choose and return the correct tool(s) from the list of available tools based on the query.",
    "Query: hello there",
)
"""As sent by Open WebUI 0.12.4, beside the message itself."""
LIBRECHAT = {
    "title": user(
        "Provide a concise, 5-word-or-less title for the conversation, using title case conventions. Only return the "
        f"title itself.\n\nConversation:\nUser: {EGG}\nAI: In water."
    ),
    "title, structured": user(
        "Analyze this conversation and provide:\n1. The detected language of the conversation\n2. A concise title\n\n"
        f"User: {EGG}\nAI: In water."
    ),
    "title, older": system(
        "Please generate a concise, 5-word-or-less title for the conversation, using its same language, with no "
        f'punctuation.\n\n||>User:\n"{EGG}"\n||>Response:\n"In water."\n\n||>Title:'
    ),
    "title, assistants": user(
        "Please generate a concise title (max 40 characters) for a conversation that starts with:\n"
        f"User: {EGG}\nAssistant: In water.\n\nTitle:"
    ),
}
OPENCODE = system(
    "You are a title generator. You output ONLY a thread title. Nothing else.\n\n<task>\n",
    f'"{EGG}"\n',
    {"role": "user", "content": "Generate a title for this conversation:\n"},
)
QWEN = {
    "title": system(
        "Generate a concise, sentence-case title (3-7 words) that captures what this programming-assistant session is "
        "about.\n\nReturn ONLY a JSON object",
        f"Conversation so far:\nUser: {EGG}\nAssistant: In water.\n\nGenerate the session title now.",
    ),
    "recap": system("You generate session recaps for a programming assistant CLI.\n\nYou", "Generate the recap now."),
    "label": system(
        "Write a short summary label describing what these tool calls accomplished. It", "Tools completed:"
    ),
    "memory": system(
        "You are now acting as the managed memory extraction subagent for an AI coding assistant.", "Managed memory"
    ),
    "dream": system("You are performing a managed memory dream — a reflective pass over durable memory files.", "Go."),
    "recall": system(
        "You are selecting memories that will be useful to an AI coding assistant as it processes a user's query.",
        f"Query: {EGG}\n\nAvailable memories:\n- [user] role.md",
    ),
    "next speaker": [
        *user(EGG),
        {"role": "assistant", "content": "In water."},
        *user("Analyze *only* the content and structure of your immediately preceding response (your last turn"),
    ],
    "suggestion": [
        *user(EGG),
        {"role": "assistant", "content": "In water."},
        *user("[SUGGESTION MODE: Suggest what the user might naturally type next.]"),
    ],
}
CLAUDE_CODE = {
    "title": system(
        "You are Claude Code, Anthropic's official CLI for Claude.\n\n"
        "You are naming a coding session so the user can pick it out of a long list of sessions. The title is a name.",
        f"<session>\n{EGG}\n</session>\n\nWrite the title in the predominant language of the session.",
    ),
    "recap": system(
        "You are Claude Code, Anthropic's official CLI for Claude.\n\nYou are an agent.",
        "The user stepped away and is coming back. Recap in under 40 words, 1-2 plain sentences, no markdown.",
    ),
    "progress": system(
        "You write a 3-5 word progress label for a background agent, from short notes about what it is doing.", "Notes"
    ),
}
CHORES = [
    (CLAUDE_CODE["title"], EGG),
    (CLAUDE_CODE["recap"], ""),
    (CLAUDE_CODE["progress"], ""),
    *[(user(OPEN_WEBUI[name]), {"title": EGG}) for name in ("title", "title, shorter", "own template")],
    (user(OPEN_WEBUI["tags"]), {"tags": ["General"]}),
    *[
        (user(OPEN_WEBUI[name]), {"follow_ups": []})
        for name in ("follow-ups", "follow-ups, 0.12", "own template for follow-ups")
    ],
    (user(OPEN_WEBUI["queries"]), {"queries": [EGG]}),
    (user(OPEN_WEBUI["autocomplete"]), {"text": ""}),
    (user(OPEN_WEBUI["image prompt"]), ""),
    (user(OPEN_WEBUI["emoji"]), ""),
    (user(OPEN_WEBUI["own template for something else"]), ""),
    (PICK, {"tool_calls": []}),
    *[(messages, EGG) for messages in LIBRECHAT.values()],
    (OPENCODE, EGG),
    (QWEN["title"], {"title": EGG}),
    (QWEN["recap"], ""),
    (QWEN["label"], ""),
    (QWEN["memory"], "Nothing to remember."),
    (QWEN["dream"], "Nothing to remember."),
    (QWEN["recall"], {"selected_memories": []}),
    (QWEN["next speaker"], {"reasoning": "The turn is over.", "next_speaker": "user"}),
    (QWEN["suggestion"], ""),
]


def task(messages: list[Any], **fields: Any) -> tuple[str | None, str]:
    """Return the recognised task, and the cheap answer."""
    request = parse_chat(json.dumps({"model": "agent", "messages": messages, **fields}).encode()).request
    found = task_of(HttpRequest("POST", "/", "", [], one(b"")), request)
    return found, "" if found is None else cheap_answer(found, request)


@requirement("housekeeping.recognised")
@pytest.mark.parametrize(("messages", "expected"), CHORES)
def test_each_programs_own_requests_are_told_and_get_an_answer_that_it_can_read(
    messages: list[Any], expected: Any
) -> None:
    found, answer = task(messages)
    assert found is not None
    assert (json.loads(answer) if isinstance(expected, dict) else answer) == expected


def test_a_title_asked_for_by_a_schema_is_json() -> None:
    form = {"type": "json_object"}
    assert json.loads(task(LIBRECHAT["title, structured"], response_format=form)[1]) == {"title": EGG}


def test_a_long_title_is_cut_and_one_without_words_is_a_new_chat() -> None:
    assert len(task(system(OPENCODE[0]["content"], "word " * 100))[1]) == 48
    assert task(system(OPENCODE[0]["content"], '""'))[1] == "New chat"


@requirement("housekeeping.recognised")
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("messages", "headers"),
    [
        (user(OPEN_WEBUI["title"]), {}),
        (OPENCODE, {}),
        (QWEN["memory"], {}),
        (PICK, {}),
        (user("anything"), {"X-Task": "function_calling"}),
        (user("anything"), {"X-Task": "follow_up_generation"}),
        (user("anything"), {"X-Task": "of_tomorrow"}),
    ],
)
async def test_chores_never_reach_the_agent_or_the_conversation(
    connect: Connect, messages: list[Any], headers: dict[str, str]
) -> None:
    agent = Recorder()
    extra = {"X-Conversation-Id": "c", **headers}
    async with connect(agent, conversations=Conversations(), limits=Limits(slots=1)) as client:
        answer = await client.chat.completions.create(model="agent", messages=messages, extra_headers=extra)
        stream = await client.chat.completions.create(
            model="agent", messages=messages, extra_headers=extra, stream=True
        )
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        with pytest.raises(openai.NotFoundError):
            await client.get("/chat/conversations/c", cast_to=object)
    assert answer.choices[0].message.content == streamed
    assert agent.seen == []


def as_items(messages: list[Any]) -> list[Any]:
    """The same messages in the form of the Responses API, as opencode's AI SDK sends them: with lists of parts."""
    part = {"assistant": "output_text"}
    return [
        {**m, "content": [{"type": part.get(m["role"], "input_text"), "text": m["content"]}]}
        if m["role"] != "system"
        else m
        for m in messages
    ]


@requirement("housekeeping.recognised")
@pytest.mark.parametrize(("messages", "expected"), CHORES)
def test_a_chore_is_told_the_same_over_the_responses_api(messages: list[Any], expected: Any) -> None:
    apart = messages[0]["role"] == "system" and len(messages) > 1
    for body in (
        {"input": messages},
        {"input": as_items(messages)},
        {"instructions": messages[0]["content"], "input": messages[1:]} if apart else {"input": as_items(messages)},
    ):
        request = parse_response({"model": "agent", **body}, Caller(), lambda prefix: prefix + "1").request
        found = task_of(HttpRequest("POST", "/", "", [], one(b"")), request)
        assert found is not None
        answer = cheap_answer(found, request)
        assert (json.loads(answer) if isinstance(expected, dict) else answer) == expected


@requirement("housekeeping.recognised")
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("messages", "headers"),
    [
        (user(OPEN_WEBUI["title"]), {}),
        (user(OPEN_WEBUI["queries"]), {}),
        (as_items(OPENCODE), {}),
        (user("anything"), {"X-Task": "follow_up_generation"}),
    ],
)
@pytest.mark.parametrize("named", [{}, {"conversation": "c"}, {"previous_response_id": "kept"}])
async def test_chores_over_responses_reach_no_agent_no_conversation_and_no_store(
    connect: Connect, messages: list[Any], headers: dict[str, str], named: dict[str, str]
) -> None:
    agent = Recorder()
    extra = {"X-Conversation-Id": "c", **headers} if not named else headers
    async with connect(agent, conversations=Conversations(), limits=Limits(slots=1)) as client:
        before = await client.responses.create(model="agent", input="hi", extra_headers={"X-Conversation-Id": "c"})
        asked: Any = {"previous_response_id": before.id} if "previous_response_id" in named else named
        agent.seen.clear()
        answer = await client.responses.create(model="agent", input=messages, extra_headers=extra, **asked)
        streamed = await client.responses.create(
            model="agent", input=messages, extra_headers=extra, stream=True, **asked
        )
        events = [event async for event in streamed]
        items = await client.conversations.items.list("c")
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(answer.id)
    assert agent.seen == []
    assert len(items.data) == 2
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == answer.output_text
    assert (answer.status, getattr(answer, "store", None)) == ("completed", False)


@requirement("housekeeping.recognised")
@pytest.mark.anyio
async def test_chores_over_a_responses_websocket_reach_no_agent() -> None:
    agent = Recorder()
    async with websocket(Server({"agent": agent})) as socket:
        await socket.send(json.dumps({"type": "response.create", "model": "agent", "input": as_items(OPENCODE)}))
        while (event := json.loads(await socket.receive()))["type"] != "response.completed":
            pass
    assert event["response"]["output"][0]["content"][0]["text"] == EGG
    assert agent.seen == []


@requirement("housekeeping.recognised")
@pytest.mark.anyio
async def test_chores_over_the_older_completions_reach_no_agent(connect: Connect) -> None:
    agent = Recorder()
    async with connect(agent) as client:
        answer = await client.completions.create(model="agent", prompt=OPEN_WEBUI["title"])
    assert json.loads(answer.choices[0].text) == {"title": EGG}
    assert agent.seen == []


@requirement("housekeeping.people")
@pytest.mark.anyio
@in_process
async def test_a_request_in_the_background_or_with_nothing_to_say_is_no_chore(connect: Connect) -> None:
    agent = Recorder()
    headers = {"X-Task": "title_generation"}
    warm: Any = {"generate": False, "input": []}
    async with connect(agent) as client:
        await client.responses.create(model="agent", extra_body=warm, extra_headers=headers)
        made = await client.responses.create(model="agent", input="hi", background=True, extra_headers=headers)
        assert (await client.responses.retrieve(made.id)).id == made.id


@requirement("housekeeping.people")
@pytest.mark.anyio
async def test_a_person_who_merges_the_answers_of_several_models_is_answered_by_the_agent(connect: Connect) -> None:
    agent = Recorder()
    async with connect(agent) as client:
        merged = await client.chat.completions.create(
            model="agent", messages=user("Merge"), extra_headers={"X-Task": "moa_response_generation"}
        )
    assert merged.choices[0].message.content == "re: Merge"


@requirement("housekeeping.hook")
@pytest.mark.anyio
async def test_a_hook_can_answer_chores_and_they_can_be_left_to_the_agent(connect: Connect) -> None:
    async def answer(task: str, request: AgentRequest) -> str:
        return f"{task} by hook"

    title: Any = user(OPEN_WEBUI["title"])
    agent = Recorder()
    async with connect(agent, housekeeping=Housekeeping(answer)) as client:
        hooked = await client.chat.completions.create(model="agent", messages=title)
    async with connect(agent, housekeeping=None) as client:
        handed_on = await client.chat.completions.create(model="agent", messages=title)
    assert hooked.choices[0].message.content == "title by hook"
    assert handed_on.choices[0].message.content == "re: " + OPEN_WEBUI["title"]


PEOPLE = [
    "### Task: fix my code",
    "### Task:\nwrite a poem",
    "### Task:\nGive my novel a title.\n### Guidelines:\n- three words\n### Output:\nplain text",
    "### Task:\nGenerate a concise, 3-5 word title for my blog post about eggs.\n### Output:\none line",
    "### Task:\nSuggest tags for this photo.\n### Output:\nJSON format: { }",
    "### Task:\nWrite SQL queries for it.\n### Guidelines:\n- PostgreSQL",
    "### Task:\nExplain the tag <chat_history>, and </chat_history>, in Open WebUI's prompts.",
    "Provide a title for my book",
    "Provide a concise title for the conversation I had with my boss.",
    "Please generate a concise title (max 40 characters) for my talk on eggs",
    "Analyze this conversation and provide feedback: User: hi AI: hello",
    "Analyze only the content of your last response, please.",
    "Generate a title for this conversation: we met, we talked, we left.",
    "Your task is to reflect the speaker's likely mood",
    "Remember that my name is Alice.",
    "What does 'You are a title generator. You output ONLY a thread title.' mean?",
]


@requirement("housekeeping.people")
@pytest.mark.parametrize("text", PEOPLE)
def test_what_people_write_is_not_taken_for_a_chore(text: str) -> None:
    assert task(user(text)) == (None, "")
    assert task([*user("hi"), {"role": "assistant", "content": "hello"}, *user(text)]) == (None, "")


@requirement("housekeeping.people")
@pytest.mark.parametrize(
    "instructions",
    [
        "You are a title generator for scientific papers.",
        "You are a helpful assistant with a memory. You are now acting as the memory of the team.",
        "You generate session recaps for a dungeon master.",
        "Available Tools: hammer and saw. Choose and return the correct tool.",
        "You are a memory extraction agent that helps people with dementia.",
        "You are the component that summarizes internal chat history into a given structure.",
    ],
)
def test_nor_are_the_instructions_of_somebodys_own_assistant(instructions: str) -> None:
    assert task(system(instructions, EGG)) == (None, "")


SNIPPETS = [
    "### Task:\n",
    "### Guidelines:\n",
    "### Output:\n",
    "### Chat History:\n",
    "<chat_history>",
    "</chat_history>\n### Thanks",
    "Generate a concise title",
    "Generate a title for this conversation:\n",
    "3-5 word title",
    "broad tags",
    "follow-up questions",
    "search queries",
    "autocompletion",
    "You are a title generator.",
    "memory extraction",
    "JSON",
    "USER: ",
]


@requirement("housekeeping.people")
@given(st.lists(st.one_of(st.sampled_from(SNIPPETS), st.text(max_size=20)), min_size=1).map(" ".join))
def test_nor_is_anything_put_together_from_their_words(text: str) -> None:
    if text.strip() and not text.rstrip().endswith("</chat_history>"):
        assert task(user(text)) == (None, "")
        assert task(system(text, EGG)) == (None, "")
