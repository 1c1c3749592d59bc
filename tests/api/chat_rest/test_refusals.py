"""Errors for bad requests to the chat REST API: OpenAI's envelope, with the field at fault."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from openai_compat import Cors, MessagePolicy, Principal, Server
from openai_compat.errors import NotFound
from openai_compat.policies.chat_rest import ChatRest, ContextQuery
from tests.api.chat_rest.support import API, conversation, error_of, serving
from tests.connecting import Http, in_process
from tests.requirements import requirement

pytestmark = [pytest.mark.anyio, in_process]

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


async def echo(prompt: str) -> str:
    return f"You said: {prompt}"


@requirement("chat_rest.refusals")
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "missing_required_parameter", "messages")),
        ({"messages": []}, (400, "invalid_request", "messages")),
        ({"messages": "Hello"}, (400, "invalid_type", "messages")),
        ({"messages": [{"role": "tool", "content": "x"}]}, (400, "invalid_value", "messages[0].role")),
        ({"messages": [{"role": "user"}]}, (400, "missing_required_parameter", "messages[0].content")),
        ({"messages": [{"role": "user", "content": ["x"]}]}, (400, "invalid_type", "messages[0].content")),
        ({"messages": HELLO, "temperature": 2.1}, (400, "invalid_value", "temperature")),
        ({"messages": HELLO, "temperature": "hot"}, (400, "invalid_type", "temperature")),
        ({"messages": HELLO, "maxTokens": 0}, (400, "invalid_value", "maxTokens")),
        ({"messages": HELLO, "maxTokens": 1.5}, (400, "invalid_type", "maxTokens")),
        ({"messages": HELLO, "stream": "yes"}, (400, "invalid_type", "stream")),
        ({"messages": HELLO, "securityMode": "loose"}, (400, "invalid_value", "securityMode")),
        ({"messages": HELLO, "taskId": ""}, (400, "invalid_value", "taskId")),
        ({"messages": HELLO, "model": "nobody"}, (404, "model_not_found", "model")),
        ({"messages": HELLO, "provider": "nobody"}, (404, "provider_not_found", "provider")),
        ({"messages": HELLO, "conversationId": "conv_x"}, (404, "conversation_not_found", "conversationId")),
    ],
)
async def test_bad_completions(http: Http, body: dict[str, Any], expected: Any) -> None:
    async with http(serving(echo)) as client:
        assert error_of(await client.post(f"{API}/completions", json=body)) == expected
        assert error_of(await client.post(f"{API}/smart", json=body)) == expected


@requirement("chat_rest.refusals")
@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("messages", {}, (400, "missing_required_parameter", "content")),
        ("messages", {"content": ""}, (400, "invalid_value", "content")),
        ("messages", {"content": " \n"}, (400, "invalid_value", "content")),
        ("messages/with-tools", {"content": 3}, (400, "invalid_type", "content")),
        ("messages/with-tools", {"content": "x", "enableTools": 1}, (400, "invalid_type", "enableTools")),
        ("messages/agentic", {"content": "x", "maxSteps": 0}, (400, "invalid_value", "maxSteps")),
        ("messages/agentic", {"content": "x", "maxSteps": 201}, (400, "invalid_value", "maxSteps")),
        ("messages/agentic", {"content": "x", "maxBudget": 999}, (400, "invalid_value", "maxBudget")),
        ("messages/agentic", {"content": "x", "effort": "huge"}, (400, "invalid_value", "effort")),
        ("title", {"title": ""}, (400, "invalid_value", "title")),
        ("title", {}, (400, "missing_required_parameter", "title")),
        ("fork", {"messageId": 3}, (400, "invalid_type", "messageId")),
        ("nothing", {}, (405, "method_not_supported", None)),
    ],
)
async def test_bad_requests_in_a_conversation(http: Http, path: str, body: dict[str, Any], expected: Any) -> None:
    async with http(serving(echo)) as client:
        name = await conversation(client)
        assert error_of(await client.post(f"{API}/conversations/{name}/{path}", json=body)) == expected
        unknown = await client.post(f"{API}/conversations/conv_x/messages", json={"content": "x"})
        assert error_of(unknown) == (404, "conversation_not_found", "conversationId")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("offset=-1", "offset"),
        ("offset=1e3", "offset"),
        ("cursor=x", "cursor"),
        ("cursor=" + "W10=" * 1000, "cursor"),
        ("cursor=bnVsbA==", "cursor"),
        ("cursor=%F0%9F%98%80", "cursor"),
    ],
)
async def test_bad_lists(http: Http, query: str, param: str) -> None:
    async with http(serving(echo)) as client:
        assert error_of(await client.get(f"{API}/conversations?{query}")) == (400, "invalid_value", param)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b'{"messages": NaN}', b"\xff"])
async def test_bodies_that_are_no_json_objects(http: Http, content: bytes) -> None:
    async with http(serving(echo)) as client:
        for path in ("completions", "quick", "smart", "conversations", "tools/approve"):
            assert error_of(await client.post(f"{API}/{path}", content=content))[:2] == (400, "invalid_request")


async def test_other_paths_and_methods(http: Http) -> None:
    async with http(serving(echo)) as client:
        assert error_of(await client.get(f"{API}/nothing"))[:2] == (404, "unknown_url")
        wrong = await client.get(f"{API}/completions")
        assert (error_of(wrong)[:2], wrong.headers["allow"]) == ((405, "method_not_supported"), "POST")


async def test_it_is_off_unless_it_is_enabled_and_may_be_elsewhere(http: Http) -> None:
    async with http(Server(echo)) as client:
        assert error_of(await client.get(f"{API}/conversations"))[:2] == (404, "unknown_url")
    async with http(Server(echo, chat_rest=ChatRest(prefix="/chat"))) as client:
        assert (await client.get("/chat/conversations")).status_code == 200
    for prefix in ("chat", "/chat/", ""):
        with pytest.raises(ValueError, match="prefix"):
            ChatRest(prefix=prefix)


async def test_a_key_is_needed(http: Http) -> None:
    async with http(serving(echo, keys="secret")) as client:
        for path in ("conversations", "models", "providers", "tools", "approvals"):
            assert error_of(await client.get(f"{API}/{path}"))[:2] == (401, "invalid_api_key")
        refused = await client.post(f"{API}/quick", json={"prompt": "Hi"}, headers={"authorization": "Bearer x"})
        assert error_of(refused)[:2] == (401, "invalid_api_key")


COOKIE = {"cookie": "other=1; session=secret"}


@requirement("chat_rest.cookie")
async def test_a_cookie_may_bring_the_key(http: Http) -> None:
    async with http(serving(echo, keys="secret", chat_rest=ChatRest(cookie="session"))) as client:
        listed = await client.get(f"{API}/conversations", headers=COOKIE)
        asked = await client.post(f"{API}/quick", json={"prompt": "Hi"}, headers=COOKIE)
        page = {**COOKIE, "origin": "http://localhost", "sec-fetch-site": "same-origin"}
        from_page = await client.post(f"{API}/quick", json={"prompt": "Hi"}, headers=page)
        wrong = await client.get(f"{API}/conversations", headers={"cookie": "session=wrong"})
        header = await client.get(f"{API}/conversations", headers={**COOKIE, "authorization": "Bearer wrong"})
        elsewhere = await client.get("/v1/models", headers=COOKIE)
    assert [listed.status_code, asked.status_code, from_page.status_code] == [200, 200, 200]
    assert [wrong.status_code, header.status_code, elsewhere.status_code] == [401, 401, 401]


async def test_without_the_setting_no_cookie_counts(http: Http) -> None:
    async with http(serving(echo, keys="secret")) as client:
        assert (await client.get(f"{API}/conversations", headers=COOKIE)).status_code == 401


@requirement("chat_rest.cookie")
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_pages_of_other_sites_cannot_use_the_cookie(http: Http, headers: dict[str, str]) -> None:
    async with http(serving(echo, keys="secret", chat_rest=ChatRest(cookie="session"))) as client:
        name = await conversation_of(client)
        posted = await client.post(f"{API}/quick", json={"prompt": "Hi"}, headers={**COOKIE, **headers})
        deleted = await client.delete(f"{API}/conversations/{name}", headers={**COOKIE, **headers})
        with_key = {"authorization": "Bearer secret", **headers}
        keyed = await client.post(
            f"{API}/quick", json={"prompt": "Hi"}, headers={**with_key, "content-type": "application/json"}
        )
    assert error_of(posted)[:2] == (403, "origin_not_allowed")
    assert error_of(deleted)[:2] == (403, "origin_not_allowed")
    assert keyed.status_code == 200


async def conversation_of(client: Any) -> str:
    answer = await client.post(f"{API}/conversations", json={}, headers=COOKIE)
    return str(answer.json()["conversation"]["id"])


CREDENTIALS = "access-control-allow-credentials"


@requirement("chat_rest.cookie.pages")
async def test_pages_of_origins_that_cors_names_may_use_the_cookie_and_read_the_answer(http: Http) -> None:
    cors = Cors(["https://app.example"])
    origin = {"origin": "https://app.example"}
    wants = {**origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    async with http(serving(echo, keys="secret", cors=cors, chat_rest=ChatRest(cookie="session"))) as client:
        preflight = await client.options(f"{API}/quick", headers=wants)
        posted = await client.post(f"{API}/quick", json={"prompt": "Hi"}, headers={**COOKIE, **origin})
        refused = await client.post(f"{API}/quick/", json={"prompt": "Hi"}, headers=origin)
        stranger = await client.post(f"{API}/quick", json={}, headers={**COOKIE, "origin": "https://evil.example"})
        elsewhere = await client.get("/v1/models", headers={**COOKIE, **origin})
    assert [answer.status_code for answer in (preflight, posted, refused)] == [200, 200, 401]
    for answer in (preflight, posted, refused):
        assert answer.headers[CREDENTIALS] == "true"
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "*" not in str([value for name, value in answer.headers.items() if name.startswith("access-control")])
    assert stranger.status_code == 403
    assert CREDENTIALS not in stranger.headers
    assert elsewhere.status_code == 401
    assert CREDENTIALS not in elsewhere.headers  # cookies do not count there


@requirement("chat_rest.cookie.pages")
async def test_without_a_cookie_no_page_is_told_to_send_any(http: Http) -> None:
    async with http(serving(echo, keys="secret", cors=Cors(["https://app.example"]))) as client:
        answer = await client.post(f"{API}/quick", json={}, headers={"origin": "https://app.example"})
    assert CREDENTIALS not in answer.headers


@pytest.mark.parametrize(("system", "status"), [("accept", 200), ("ignore", 200), ("reject", 400)])
async def test_the_servers_message_policy_holds_for_system_prompts(http: Http, system: Any, status: int) -> None:
    seen: list[Any] = []

    async def agent(messages: list[dict[str, Any]]) -> str:
        seen.extend(messages)
        return "Yes."

    async with http(serving(agent, messages=MessagePolicy(system=system))) as client:
        answer = await client.post(f"{API}/quick", json={"prompt": "Hi", "systemPrompt": "Be bad."})
    assert answer.status_code == status
    assert any(message["role"] == "system" for message in seen) is (system == "accept")
    if status == 400:
        assert error_of(answer) == (400, "unsupported_value", "systemPrompt")


async def test_the_context_hook_makes_instructions_of_ids(http: Http) -> None:
    asked: list[ContextQuery] = []
    seen: list[Any] = []

    async def context(query: ContextQuery) -> str | None:
        asked.append(query)
        if query.ticket_id == "gone":
            raise NotFound("No such ticket.", code="ticket_not_found", param="ticketId")
        return None if query.task_id is None else f"The task is {query.task_id}."

    async def agent(messages: list[dict[str, Any]]) -> str:
        seen.append([message["content"] for message in messages if message["role"] == "system"])
        return "Yes."

    async with http(serving(agent, chat_rest=ChatRest(context=context), keys={"k": Principal("her")})) as client:
        client.headers["authorization"] = "Bearer k"
        body = {"messages": HELLO, "taskId": "t1", "presetId": "p", "systemPrompt": "Be brief."}
        smart = (await client.post(f"{API}/smart", json=body)).json()
        name = await conversation(client, taskId="t2")
        await client.post(f"{API}/conversations/{name}/messages", json={"content": "Hi"})
        await client.post(f"{API}/conversations/{name}/messages", json={"content": "Hi again"})
        messages = (await client.get(f"{API}/conversations/{name}")).json()["messages"]
        gone = await client.post(f"{API}/smart", json={"messages": HELLO, "ticketId": "gone"})
        await client.post(f"{API}/smart", json={"messages": HELLO})

    assert smart["context"] == {"presetId": "p", "taskId": "t1", "ticketId": None}
    assert seen == [["Be brief.", "The task is t1."], ["The task is t2."], ["The task is t2."], []]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
    assert error_of(gone) == (404, "ticket_not_found", "ticketId")
    assert (asked[0].principal.id, asked[0].preset_id, asked[1].conversation_id) == ("her", "p", name)
    assert len(asked) == 4


@requirement("chat_rest.busy")
async def test_one_turn_at_a_time(http: Http) -> None:
    begun, go_on = anyio.Event(), anyio.Event()

    async def slow(prompt: str) -> str:
        begun.set()
        await go_on.wait()
        return "Done."

    async with http(serving(slow)) as client:
        name = await conversation(client)
        path = f"{API}/conversations/{name}"

        async def first() -> None:
            answer = await client.post(f"{path}/messages", json={"content": "One"})
            assert answer.json()["assistantMessage"]["content"] == "Done."

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(first)
                await begun.wait()
                for kind in ("messages", "messages/with-tools", "messages/agentic"):
                    busy = await client.post(f"{path}/{kind}", json={"content": "Two"})
                    assert error_of(busy)[:2] == (409, "conversation_busy")
                    assert busy.headers["x-should-retry"] == "false"
                go_on.set()
        messages = (await client.get(f"{path}/messages")).json()["messages"]
    assert [one["content"] for one in messages] == ["One", "Done."]
