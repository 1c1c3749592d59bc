"""Approvals over the chat REST API: asked by one request, decided once by another, in any process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from openai_compat import ChatRest, Conversations, MemoryStore, Principal, Server
from openai_compat.testing import ScriptedBackend
from openai_compat.tools import AskLater, ToolLoop
from tests.api.chat_rest.support import API, BOUGHT, BUYS, Shop, call, conversation, error_of, frames, serving, shopper
from tests.connecting import Http, in_process
from tests.requirements import requirement

pytestmark = pytest.mark.anyio

TWO = (["Two things.", call("c1", "buy", what="bread"), call("c2", "buy", what="milk")],)


async def asked(
    client: httpx2.AsyncClient, name: str, path: str = "messages/with-tools", **more: Any
) -> dict[str, Any]:
    """Send a message on which the agent asks for approval; returns the answer."""
    answer = await client.post(f"{API}/conversations/{name}/{path}", json={"content": "Buy bread", **more})
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def decide(client: httpx2.AsyncClient, name: str, approval: str, **more: Any) -> httpx2.Response:
    body = {"conversationId": name, "approvalId": approval, "decision": "allow-once", **more}
    return await client.post(f"{API}/tools/approve", json=body)


@requirement("chat_rest.approve")
async def test_a_decision_resumes_the_turn_once_and_its_result_is_in_the_conversation(http: Http) -> None:
    shop = Shop()
    async with http(serving(shopper(shop, *BUYS, *BOUGHT))) as client:
        name = await conversation(client)
        first = await asked(client, name)
        (pending,) = first["pendingApprovals"]
        waiting = (await client.get(f"{API}/approvals?conversationId={name}")).json()["approvals"]
        before = list(shop.did)
        answer = await decide(client, name, pending["id"])
        again = await decide(client, name, pending["id"])
        found = (await client.get(f"{API}/conversations/{name}")).json()
        left = (await client.get(f"{API}/approvals")).json()["approvals"]

    assert (first["finishReason"], first["toolCalls"][0]["status"]) == ("approval-required", "pending")
    assert (pending["toolName"], pending["params"]) == ("buy", {"what": "bread"})
    assert (pending["conversationId"], pending["securityLevel"]) == (name, "moderate")
    assert waiting == [pending]
    assert before == []
    assert answer.status_code == 200
    told = answer.json()
    assert (told["success"], told["decision"], told["result"]) == (True, "allow-once", "bought 1 bread")
    assert told["assistantMessage"]["content"] == "You have bread now."
    assert error_of(again) == (409, "approval_decided", None)
    assert shop.did == ["buy 1 bread"]
    said = found["messages"][-1]
    assert said["content"] == "Let me buy it.\n\nYou have bread now."
    assert [(one["id"], one["status"], one.get("result")) for one in said["toolCalls"]] == [
        ("c1", "success", "bought 1 bread")
    ]
    assert left == []


@requirement("chat_rest.approve")
@pytest.mark.parametrize("first", ["messages/with-tools", "messages", "messages/agentic", "completions"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_ids_that_are_told_are_those_of_the_history(http: Http, first: str, stream: bool) -> None:
    """For each request that may ask, streamed or not: clients delete and fork messages by these ids."""
    told: list[str] = []
    async with http(serving(shopper(Shop(), *BUYS, *BOUGHT))) as client:
        name = await conversation(client)
        if first == "completions":
            body = {"messages": [{"role": "user", "content": "Buy bread"}], "conversationId": name, "stream": stream}
            answer = await client.post(f"{API}/completions", json=body)
        else:
            more = {} if first == "messages/agentic" else {"stream": stream}
            answer = await client.post(f"{API}/conversations/{name}/{first}", json={"content": "Buy bread", **more})
        told += ids_in(answer)
        (pending,) = (await client.get(f"{API}/approvals")).json()["approvals"]
        told += ids_in(await decide(client, name, pending["id"], stream=stream))
        history = (await client.get(f"{API}/conversations/{name}/messages")).json()["messages"]
        forks = [
            await client.post(f"{API}/conversations/{name}/fork", json={"messageId": identifier})
            for identifier in set(told)
        ]
        gone = [
            await client.delete(f"{API}/conversations/{name}/messages/{identifier}") for identifier in sorted(set(told))
        ]
        left = (await client.get(f"{API}/conversations/{name}/messages")).json()["messages"]

    assert len(told) >= 2
    assert set(told) <= {message["id"] for message in history}
    assert history[-1]["id"] in told
    assert {fork.status_code for fork in forks} == {201}
    assert {answer.status_code for answer in gone} == {200}
    assert len(left) == len(history) - len(set(told))


def ids_in(answer: httpx2.Response) -> list[str]:
    """The message ids in an answer, whole or streamed."""
    assert answer.status_code == 200
    if answer.headers["content-type"].startswith("text/event-stream"):
        found = [{"type": None, "data": frame, **frame} for frame in frames(answer)]
        told = [frame["data"].get("id") for frame in found if frame["type"] in ("user_message", "message_saved")]
        told += [frame["data"].get(name) for frame in found for name in ("messageId", "userMessageId")]
        told += [(frame["data"].get("assistantMessage") or {}).get("id") for frame in found]
    else:
        body = answer.json()
        told = [
            body.get("messageId"),
            *[(body.get(who) or {}).get("id") for who in ("userMessage", "assistantMessage")],
        ]
    return [identifier for identifier in told if identifier is not None]


@in_process
async def test_a_denial_is_heard_by_the_agent(http: Http) -> None:
    shop = Shop()
    agent = ScriptedBackend(*BUYS, ["Pity."])
    async with http(serving(ToolLoop(agent, shop.tools, approver=AskLater()))) as client:
        name = await conversation(client)
        (pending,) = (await asked(client, name))["pendingApprovals"]
        answer = (await decide(client, name, pending["id"], decision="deny", reason="too dear")).json()

    assert (answer["result"], answer["toolCalls"][0]["status"]) == ("Denied by the user: too dear", "denied")
    assert agent.requests[-1].raw_messages[-1]["content"] == "Denied by the user: too dear"
    assert shop.did == []


@in_process
async def test_arguments_can_be_changed(http: Http) -> None:
    shop = Shop()
    async with http(serving(shopper(shop, *BUYS, *BOUGHT))) as client:
        name = await conversation(client)
        (pending,) = (await asked(client, name))["pendingApprovals"]
        await decide(client, name, pending["id"], arguments={"what": "bread", "pieces": 2})
    assert shop.did == ["buy 2 bread"]


@in_process
async def test_what_was_allowed_for_always_is_not_asked_again(http: Http) -> None:
    shop = Shop()
    async with http(serving(shopper(shop, *BUYS, *BOUGHT, *BUYS, *BOUGHT))) as client:
        name = await conversation(client)
        (pending,) = (await asked(client, name))["pendingApprovals"]
        await decide(client, name, pending["id"], decision="allow-always")
        assert (await asked(client, name))["pendingApprovals"] == []
    assert shop.did == ["buy 1 bread", "buy 1 bread"]


@requirement("approval.grants")
@pytest.mark.parametrize("kept", ["memory", "sqlite"])
async def test_what_was_allowed_for_always_holds_at_every_server_of_the_store_until_it_is_taken_back(
    http: Http, kept: str, tmp_path: Path
) -> None:
    shop, memory = Shop(), MemoryStore()
    buys = (*BUYS, *BOUGHT) * 3

    def another() -> Server:  # another process, as far as the server can tell: they share nothing but the store
        store = memory if kept == "memory" else f"sqlite:///{tmp_path / 'state.db'}"
        return serving(shopper(shop, *buys), store=store)

    async with http(another()) as first, http(another()) as second:
        name = await conversation(first)
        (pending,) = (await asked(first, name))["pendingApprovals"]
        await decide(first, name, pending["id"], decision="allow-always")
        other = await conversation(second)
        assert (await asked(second, other))["pendingApprovals"] == []
        assert shop.did == ["buy 1 bread", "buy 1 bread"]
        (grant,) = (await second.get(f"{API}/grants")).json()["grants"]
        assert (grant["agent"], grant["tool"], grant["allow"]) == ("agent", "buy", {"arguments": {"what": "bread"}})
        assert (await second.delete(f"{API}/grants/{grant['id']}")).json() == {"success": True}
        again = await second.delete(f"{API}/grants/{grant['id']}")
        assert (again.status_code, again.json()["error"]["code"]) == (404, "grant_not_found")
        assert len((await asked(first, await conversation(first)))["pendingApprovals"]) == 1
    assert shop.did == ["buy 1 bread", "buy 1 bread"]


async def test_a_decision_can_be_streamed(http: Http) -> None:
    async with http(serving(shopper(Shop(), *BUYS, *BOUGHT))) as client:
        name = await conversation(client)
        (pending,) = (await asked(client, name))["pendingApprovals"]
        told = frames(await decide(client, name, pending["id"], stream=True))
    assert "".join([frame.get("content", "") for frame in told]) == "You have bread now."
    assert (told[-1]["done"], told[-1]["result"]) == (True, "bought 1 bread")


async def test_an_agentic_turn_asks_and_goes_on_as_one(http: Http) -> None:
    async with http(serving(shopper(Shop(), *BUYS, *BOUGHT))) as client:
        name = await conversation(client)
        path = f"{API}/conversations/{name}/messages/agentic"
        told = frames(await client.post(path, json={"content": "Buy bread", "maxSteps": 3}))
        question = next(frame["data"] for frame in told if frame["type"] == "approval:required")
        then = frames(await decide(client, name, question["id"], stream=True))

    complete = next(frame["data"] for frame in told if frame["type"] == "complete")
    assert (complete["stopReason"], complete["pendingApprovals"]) == ("approval-required", [question])
    kinds = [frame["type"] for frame in then]
    assert kinds[:3] == ["session:start", "tool:call", "tool:result"]
    assert kinds[-3:] == ["summary", "complete", "message_saved"]
    assert "step:start" in kinds


async def ended(client: httpx2.AsyncClient, name: str, words: str) -> None:
    """Return once the conversation ends with this text."""
    with anyio.fail_after(10):
        while True:
            found = (await client.get(f"{API}/conversations/{name}/messages")).json()["messages"]
            if found[-1]["content"].endswith(words):
                return
            await anyio.lowlevel.checkpoint()


async def test_a_turn_may_go_on_by_itself(http: Http) -> None:
    shop = Shop()
    async with http(serving(shopper(shop, *BUYS, *BOUGHT))) as client:
        name = await conversation(client)
        (pending,) = (await asked(client, name))["pendingApprovals"]
        answer = await decide(client, name, pending["id"], background=True)
        again = await decide(client, name, pending["id"], background=True)
        await ended(client, name, "You have bread now.")
    assert (answer.status_code, answer.json()["resumed"]) == (202, True)
    assert again.status_code == 409
    assert shop.did == ["buy 1 bread"]


@in_process
async def test_while_a_turn_goes_on_by_itself_its_conversation_is_busy(http: Http) -> None:
    go_on = anyio.Event()
    async with http(serving(shopper(Shop(), *BUYS, [go_on, "Done."]))) as client:
        name = await conversation(client)
        (pending,) = (await asked(client, name))["pendingApprovals"]
        await decide(client, name, pending["id"], background=True)
        busy = await client.post(f"{API}/conversations/{name}/messages", json={"content": "More"})
        go_on.set()
        await ended(client, name, "Done.")
    assert error_of(busy)[:2] == (409, "conversation_busy")


@in_process
async def test_a_turn_that_fails_by_itself_gives_its_conversation_free(http: Http) -> None:
    shop = Shop()
    async with http(serving(shopper(shop, *BUYS, [RuntimeError("broken")], ["Hello."]))) as client:
        name = await conversation(client)
        (pending,) = (await asked(client, name))["pendingApprovals"]
        answer = await decide(client, name, pending["id"], background=True)
        with anyio.fail_after(10):
            while True:
                after = await client.post(f"{API}/conversations/{name}/messages", json={"content": "Hello"})
                if after.status_code != 409:
                    break
                await anyio.lowlevel.checkpoint()
    assert (answer.status_code, after.status_code) == (202, 200)
    assert shop.did == ["buy 1 bread"]


@in_process
async def test_of_two_questions_one_decision_goes_on_and_the_other_is_asked_anew(http: Http) -> None:
    shop = Shop()
    async with http(serving(shopper(shop, *TWO, ["All bought."]))) as client:
        name = await conversation(client)
        first, second = (await asked(client, name))["pendingApprovals"]
        told = (await decide(client, name, first["id"])).json()
        late = await decide(client, name, second["id"])
        (anew,) = told["pendingApprovals"]
        then = (await decide(client, name, anew["id"])).json()
        found = (await client.get(f"{API}/conversations/{name}")).json()["messages"]

    assert told["finishReason"] == "approval-required"
    assert error_of(late) == (409, "approval_decided", None)
    assert (anew["toolCallId"], then["assistantMessage"]["content"]) == ("c2", "All bought.")
    assert shop.did == ["buy 1 bread", "buy 1 milk"]
    assert [(one["id"], one["status"]) for one in found[-1]["toolCalls"]] == [("c1", "success"), ("c2", "success")]


@in_process
async def test_another_message_is_a_no(http: Http) -> None:
    shop = Shop()
    async with http(serving(shopper(shop, *BUYS, ["As you like."]))) as client:
        name = await conversation(client)
        (pending,) = (await asked(client, name))["pendingApprovals"]
        answer = (await client.post(f"{API}/conversations/{name}/messages", json={"content": "Stop"})).json()
        late = await decide(client, name, pending["id"])
        found = (await client.get(f"{API}/conversations/{name}")).json()["messages"]

    assert answer["assistantMessage"]["content"] == "As you like."
    assert error_of(late)[:2] == (409, "approval_decided")
    assert shop.did == []
    assert [[one["status"] for one in message.get("toolCalls", [])] for message in found] == [[], [], [], ["denied"]]


@requirement("chat_rest.owner")
@in_process
async def test_a_decision_belongs_to_a_principal_and_a_conversation(http: Http) -> None:
    shop = Shop()
    keys = {"hers": Principal("her"), "his": Principal("him")}
    async with http(serving(shopper(shop, *BUYS, *BOUGHT), keys=keys)) as client:
        client.headers["authorization"] = "Bearer hers"
        name, other = await conversation(client), await conversation(client)
        (pending,) = (await asked(client, name))["pendingApprovals"]
        elsewhere = await decide(client, other, pending["id"])
        unknown = await decide(client, name, "appr_nothing")
        client.headers["authorization"] = "Bearer his"
        foreign = await decide(client, name, pending["id"])
        theirs = (await client.get(f"{API}/approvals")).json()["approvals"]
        client.headers["authorization"] = "Bearer hers"
        answer = await decide(client, name, pending["id"])

    for refused in (elsewhere, unknown, foreign):
        assert error_of(refused) == (404, "approval_not_found", "approvalId")
    assert theirs == []
    assert answer.status_code == 200


@in_process
@pytest.mark.parametrize("whole", [True, False])
async def test_what_was_deleted_cannot_be_decided_any_more(http: Http, whole: bool) -> None:
    shop = Shop()
    async with http(serving(shopper(shop, *BUYS, *BOUGHT))) as client:
        name = await conversation(client)
        first = await asked(client, name)
        path = f"{API}/conversations/{name}" + ("" if whole else f"/messages/{first['assistantMessage']['id']}")
        assert (await client.delete(path)).json() == {"success": True}
        left = (await client.get(f"{API}/approvals")).json()["approvals"]
        late = await decide(client, name, first["pendingApprovals"][0]["id"])
    assert (left, late.status_code, shop.did) == ([], 409, [])


@requirement("chat_rest.restart")
@in_process
async def test_a_server_that_was_started_anew_knows_what_was_asked_and_how(http: Http, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    first, second = Shop(), Shop()
    before = serving({"other": ScriptedBackend(["No."]), "shop": shopper(first, *BUYS)}, store=url)
    async with before.lifespan(), http(before) as client:
        name = await conversation(client)
        body: dict[str, Any] = {"model": "shop", "systemPrompt": "Be brief.", "temperature": 0.3, "securityMode": "ask"}
        (pending,) = (await asked(client, name, **body))["pendingApprovals"]

    model = ScriptedBackend(*BOUGHT)
    loop = ToolLoop(model, second.tools, approver=AskLater())
    after = serving({"other": ScriptedBackend(["No."]), "shop": loop}, store=url)
    async with after.lifespan(), http(after) as client:
        waiting = (await client.get(f"{API}/approvals")).json()["approvals"]
        answer = (await decide(client, name, pending["id"])).json()
        again = await decide(client, name, pending["id"])

    assert [one["id"] for one in waiting] == [pending["id"]]
    assert (answer["result"], answer["assistantMessage"]["model"]) == ("bought 1 bread", "shop")
    assert error_of(again)[:2] == (409, "approval_decided")
    assert (first.did, second.did) == ([], ["buy 1 bread"])
    (request,) = model.requests
    assert (request.sampling.temperature, request.extra) == (0.3, {"security_mode": "ask"})
    assert [message["role"] for message in request.raw_messages] == ["system", "user", "assistant", "tool"]


@in_process
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"approvalId": "a", "decision": "deny"}, (400, "missing_required_parameter", "conversationId")),
        ({"conversationId": "c", "decision": "deny"}, (400, "missing_required_parameter", "approvalId")),
        ({"conversationId": "c", "approvalId": "a"}, (400, "missing_required_parameter", "decision")),
        ({"conversationId": "c", "approvalId": "a", "decision": "maybe"}, (400, "invalid_value", "decision")),
        ({"conversationId": "c", "approvalId": 3, "decision": "deny"}, (400, "invalid_type", "approvalId")),
        ({"conversationId": "c", "approvalId": "a", "decision": "deny"}, (404, "approval_not_found", "approvalId")),
    ],
)
async def test_bad_decisions_are_refused(http: Http, body: dict[str, Any], expected: Any) -> None:
    async with http(serving(shopper(Shop(), *BUYS))) as client:
        assert error_of(await client.post(f"{API}/tools/approve", json=body)) == expected


@in_process
async def test_what_another_api_has_asked_in_the_conversation_can_be_decided_here(http: Http) -> None:
    shop = Shop()
    agents = {"other": ScriptedBackend(["No."]), "shop": shopper(shop, *BUYS, *BOUGHT)}
    async with http(serving(agents)) as client:
        name = await conversation(client)
        await client.post("/v1/responses", json={"model": "shop", "input": "Buy bread", "conversation": name})
        (pending,) = (await client.get(f"{API}/approvals?conversationId={name}")).json()["approvals"]
        answer = (await decide(client, name, pending["id"])).json()
    assert (answer["result"], answer["assistantMessage"]["model"]) == ("bought 1 bread", "shop")
    assert shop.did == ["buy 1 bread"]


@in_process
async def test_what_was_asked_by_an_unknown_agent_is_refused(http: Http) -> None:
    shop = Shop()
    agents = {"other": ScriptedBackend(["No."]), "shop": shopper(shop, *BUYS, *BOUGHT)}
    async with http(serving(agents, conversations=Conversations())) as client:
        body = {"model": "shop", "messages": [{"role": "user", "content": "Buy bread"}]}
        await client.post("/v1/chat/completions", json=body, headers={"x-conversation-id": "trip"})
        (pending,) = (await client.get(f"{API}/approvals")).json()["approvals"]
        refused = await decide(client, "trip", pending["id"])
        left = (await client.get(f"{API}/approvals")).json()["approvals"]
    assert error_of(refused)[:2] == (409, "approval_elsewhere")
    assert (left, shop.did) == ([pending], [])


@in_process
async def test_clients_do_not_see_how_the_agent_was_instructed(http: Http) -> None:
    api = ChatRest(context=lambda query: "A secret of the operator's.")
    async with http(serving(shopper(Shop(), *BUYS), chat_rest=api)) as client:
        name = await conversation(client, taskId="t")
        first = await client.post(f"{API}/conversations/{name}/messages", json={"content": "Buy"})
        items = await client.get(f"/v1/conversations/{name}/items")
        pending = await client.get(f"{API}/approvals")
        found = await client.get(f"{API}/conversations/{name}")
    assert first.json()["finishReason"] == "approval-required"
    assert not any("secret" in answer.text for answer in (first, items, pending, found))


@in_process
async def test_two_decisions_at_once_are_one(http: Http) -> None:
    shop = Shop()
    async with http(serving(shopper(shop, *BUYS, *BOUGHT))) as client:
        name = await conversation(client)
        (pending,) = (await asked(client, name))["pendingApprovals"]
        answers: list[int] = []

        async def once() -> None:
            answers.append((await decide(client, name, pending["id"])).status_code)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(once)
    assert sorted(answers) == [200, 409, 409, 409, 409]
    assert shop.did == ["buy 1 bread"]
