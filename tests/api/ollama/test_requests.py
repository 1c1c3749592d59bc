"""Requests of Ollama's clients as observed, and the errors for invalid ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from openai_compat import (
    Admission,
    AgentError,
    AgentRequest,
    Capabilities,
    Finished,
    Limits,
    Principal,
    Server,
)
from openai_compat.api.ollama import Ollama
from openai_compat.events import Paused, PendingCall, ToolCallReady, ToolResult
from openai_compat.http import HttpRequest
from openai_compat.turns.slots import SlotRequest
from tests.api.ollama.support import SAID, WEATHER, Asked, post, refused, serve, told_lines
from tests.requirements import requirement
from tests.support.exchanges import LOCALHOST, answer, one, request

pytestmark = pytest.mark.anyio

CALL: dict[str, Any] = {"function": {"name": "weather", "arguments": {"city": "Paris"}}}
PATHS = ("/api/chat", "/api/generate")


async def get(server: Server, path: str, *headers: tuple[bytes, bytes], method: str = "GET") -> Any:
    return await answer(server, request(path, b"", *headers, method=method))


@requirement("ollama.models")
async def test_open_webui_finds_the_server_its_version_and_what_it_has() -> None:
    server = serve({"one": Asked(), "two:8b": Asked()})
    found, head = await get(server, "/"), await get(server, "/", method="HEAD")
    assert (found.data, head.status, head.data) == (b"Ollama is running", 200, b"")
    assert json.loads((await get(server, "/api/version")).data) == {"version": "0.13.0"}
    assert json.loads((await get(server, "/api/ps")).data) == {"models": []}
    models = json.loads((await get(server, "/api/tags")).data)["models"]
    assert [(model["name"], model["model"]) for model in models] == [("one:latest",) * 2, ("two:8b",) * 2]
    assert len({model["digest"] for model in models}) == 2


@requirement("ollama.models")
async def test_a_key_is_asked_for_but_not_whether_anybody_is_at_home() -> None:
    server = Server({"one": Asked(), "two": Asked()}, apis=[Ollama()], keys={"k": Principal("ann", frozenset(["one"]))})
    assert (await get(server, "/")).status == (await get(server, "/api/version")).status == 200
    assert refused(await get(server, "/api/tags"))[:2] == (401, "invalid_api_key")
    key = (b"authorization", b"Bearer k")
    assert [m["name"] for m in json.loads((await get(server, "/api/tags", key)).data)["models"]] == ["one:latest"]
    assert refused(await post(server, "/api/show", key, model="two"))[0] == 404
    assert (await answer(server, request("/api/show", {"name": "one"}, key))).status == 200  # the older field name


@requirement("ollama.requests")
async def test_home_assistant_brings_its_history_with_results_by_their_order() -> None:
    asked = Asked()
    messages = [
        {"role": "system", "content": "You control a home."},
        {"role": "user", "content": "Lights off, and the weather?", "images": None},
        {"role": "assistant", "content": "", "tool_calls": [CALL, {"function": {"name": "off", "arguments": {}}}]},
        {"role": "tool", "content": '{"done": true}', "tool_name": "off"},
        {"role": "tool", "content": "sunny"},
    ]
    sent = await post(
        serve(asked),
        messages=messages,
        tools=[WEATHER, {"type": "function", "function": {"name": "off"}}],
        keep_alive="-1s",
        options={"num_ctx": 8192},
        think=False,
    )
    assert [line["message"]["content"] for line in told_lines(sent)] == ["answer 1", ""]
    (told,) = asked
    calls = told.messages[2].tool_calls
    assert [call.call_id for call in calls] == ["call_1", "call_2"]
    assert told.resume is not None
    assert {key: result.text for key, result in told.resume.results.items()} == {
        "call_1": "sunny",
        "call_2": '{"done": true}',
    }
    assert told.extra == {"keep_alive": "-1s", "think": False, "options": {"num_ctx": 8192}}
    assert [tool.name for tool in told.tools] == ["weather", "off"]


@requirement("ollama.requests")
async def test_results_find_their_calls_by_id_before_all_else() -> None:
    asked = Asked()
    calls = [{**CALL, "id": "x"}, {**CALL, "id": "y"}, {**CALL, "id": "y"}]
    results = [
        {"role": "tool", "content": "second", "tool_call_id": "y", "tool_name": "other"},
        {"role": "tool", "content": "first", "tool_call_id": "lost"},
        {"role": "tool", "content": "third"},
    ]
    await post(serve(asked), messages=[*SAID, {"role": "assistant", "tool_calls": calls}, *results])
    assert asked[0].resume is not None
    found = asked[0].resume.results
    assert {key: result.text for key, result in found.items()} == {"x": "first", "y": "second", "call_3": "third"}


@requirement("ollama.requests")
@pytest.mark.parametrize(
    ("options", "sampling"),
    [
        ({"num_predict": 5, "stop": ["a", "b"]}, {"max_tokens": 5, "stop": ("a", "b")}),
        ({"num_predict": -1, "stop": "a", "seed": 7.0}, {"stop": ("a",), "seed": 7}),
        ({"num_predict": -2, "temperature": 3, "top_p": 0.5}, {"temperature": 3.0, "top_p": 0.5}),
        ({"presence_penalty": 1, "frequency_penalty": 2}, {"presence_penalty": 1.0, "frequency_penalty": 2.0}),
    ],
)
async def test_options_are_told_as_numbers_for_the_model(options: dict[str, Any], sampling: dict[str, Any]) -> None:
    asked = Asked()
    assert (await post(serve(asked), options=options)).status == 200
    assert asked[0].sampling.given() == sampling


@requirement("ollama.requests")
async def test_effort_is_told_by_think() -> None:
    asked = Asked()
    for think in ("low", True):
        assert (await post(serve(asked), think=think)).status == 200
    assert [told.sampling.reasoning_effort for told in asked] == ["low", None]


@requirement("ollama.requests")
@pytest.mark.parametrize("path", PATHS)
async def test_a_request_without_a_question_loads_and_runs_nothing(path: str) -> None:
    asked = Asked()
    for keep_alive, reason in ((None, "load"), ("5m", "load"), (0, "unload")):
        fields = {"messages": []} if path == "/api/chat" else {"prompt": ""}
        (line,) = told_lines(await post(serve(asked), path, keep_alive=keep_alive, **fields))
        assert (line["done"], line["done_reason"]) == (True, reason)
    assert (await post(serve(asked), path, model="other", messages=None)).status == 404
    assert asked == []


@requirement("ollama.requests")
async def test_curl_may_leave_its_type_on_the_body_and_a_page_may_not() -> None:
    server = serve(Asked())
    for path in ("/api/chat", "/api/embed"):
        for page, status in (((), 200), (((b"origin", b"https://evil.example"),), 415)):
            body = json.dumps({"model": "agent", "messages": SAID}).encode()
            headers = [LOCALHOST, (b"content-type", b"application/x-www-form-urlencoded"), *page]
            sent = await answer(server, HttpRequest("POST", path, "", headers, one(body)))
            assert sent.status == (400 if path == "/api/embed" and not page else status)


@requirement("ollama.requests")
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]: A message with role 'tool' must answer"),
        ({"messages": [*SAID, {"role": "assistant", "tool_calls": [CALL]}]}, "messages[1].tool_calls: An assistant"),
        ({"messages": [{"role": "system", "content": "x"}]}, "No user message found"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "Invalid value for 'messages[0].role'"),
        ({"messages": [{"role": "user", "content": 5}]}, "Invalid value for 'messages[0].content'"),
        ({"messages": [{"role": "user", "images": ["https://a.example/b.png"]}]}, "messages[0].images[0]: A picture"),
        ({"messages": "x"}, "Invalid value for 'messages'"),
        ({"model": ""}, "Invalid value for 'model'"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name: Each tool needs a name"),
        ({"tools": [{"type": "function"}]}, "Missing required parameter: 'tools[0].function'"),
        ({"format": "yaml"}, "Invalid value for 'format'"),
        ({"format": {"type": 5}}, "format"),
        ({"options": {"temperature": "hot"}}, "Invalid value for 'options.temperature'"),
        ({"options": {"stop": [""]}}, "Invalid value for 'options.stop"),
        ({"think": "much"}, "Invalid value for 'think'"),
        ({"stream": "no"}, "Invalid value for 'stream'"),
        ({"top_logprobs": 3}, "'top_logprobs' needs"),
        ({"logprobs": True}, "This agent does not support 'logprobs'"),
    ],
)
async def test_what_is_wrong_is_told_by_its_place(fields: dict[str, Any], message: str) -> None:
    told = (await post(serve(Asked()), **fields)).json["error"]
    sent = await post(serve(Asked()), **fields)
    assert sent.status == 400
    assert told.startswith(message)


@requirement("ollama.requests")
@pytest.mark.parametrize(
    ("fields", "param"), [({"suffix": "}"}, "suffix"), ({"context": [1]}, "context"), ({"prompt": 5}, "prompt")]
)
async def test_a_prompt_has_no_other_text_behind_it_and_no_numbers_before_it(
    fields: dict[str, Any], param: str
) -> None:
    sent = await post(serve(Asked()), "/api/generate", **{"prompt": "x", **fields})
    assert sent.status == 400
    assert param in sent.json["error"]


@requirement("ollama.requests")
async def test_an_agent_that_cannot_refuses_pictures_and_a_form_of_the_answer() -> None:
    class Plain:
        capabilities = Capabilities(vision=False, structured_output=False, client_tools=False)

        async def run(self, request: AgentRequest, context: Any) -> AsyncIterator[Any]:
            yield Finished()

    server = serve(Plain())
    assert "'format'" in refused(await post(server, format="json"))[2]
    picture = [{"role": "user", "content": "x", "images": ["aGk="]}]
    assert "'messages[0].images[0]'" in refused(await post(server, messages=picture))[2]
    assert "'images[0]'" in refused(await post(server, "/api/generate", images=["aGk="]))[2]
    assert (await post(server, tools=[WEATHER])).status == 200


@requirement("ollama.once")
async def test_no_tool_of_a_client_is_called_in_an_answer_that_fails() -> None:
    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        yield "Let me look."
        yield ToolCallReady("a", "weather", "{}")
        raise AgentError("It broke.", code="broken")

    sent = await post(serve(agent), tools=[WEATHER])
    first, error = told_lines(sent)
    assert (first["message"]["content"], error["error"], error["code"]) == ("Let me look.", "It broke.", "broken")
    assert error["message"].keys() == {"role", "content"}


@requirement("ollama.requests")
async def test_a_question_to_a_person_is_text_and_so_is_the_answer() -> None:
    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        if request.resume is None:
            yield Paused((PendingCall("a", "rm", "{}", "approval"),))
        else:
            yield ToolResult("a", "gone")
            yield f"Approved: {request.resume.decisions['a'].approved}"

    server = serve(agent)
    question = (await post(server, stream=False)).json["message"]
    assert "May I run rm with {}?" in question["content"]
    yes = [*SAID, question, {"role": "user", "content": "yes"}]
    assert (await post(server, messages=yes, stream=False)).json["message"]["content"] == "Approved: True"
    again = refused(await post(server, messages=yes))
    assert again[0] == 409


@requirement("ollama.requests")
async def test_a_full_server_says_so_in_words_where_it_is_to() -> None:
    server = serve(Asked(), limits=Limits(slots=1), admission=Admission(queue=0, busy="All are busy."))
    async with await server.services.live.slots.take(SlotRequest(1, "agent", Principal("x"))):
        (text, last) = told_lines(await post(server))
        whole = await post(server, "/api/generate", prompt="x", stream=False)
    assert (text["message"]["content"], last["done"]) == ("All are busy.", True)
    assert whole.json["response"] == "All are busy."


@requirement("ollama.requests")
async def test_chores_of_chat_programs_are_answered_without_the_agent() -> None:
    asked = Asked()
    for stream in (True, False):
        sent = await post(serve(asked), "/api/chat", (b"x-task", b"title_generation"), stream=stream)
        assert sent.json["message"]["content"] if not stream else told_lines(sent)[-1]["done"]
    assert asked == []


def test_own_tools_have_three_places() -> None:
    with pytest.raises(ValueError, match="own_tools"):
        Ollama(own_tools="status")
