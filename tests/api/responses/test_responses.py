"""The Responses API over each transport: answers, streams, chains, background responses, stored data."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pydantic
import pytest

from openai_compat import (
    AgentError,
    AgentRequest,
    Capabilities,
    Conversations,
    Deadlines,
    Disconnect,
    Finished,
    MemoryStore,
    Paused,
    PendingCall,
    Principal,
    ReasoningDelta,
    Server,
    ToolCallReady,
    ToolResult,
    UsageReported,
)
from openai_compat.backend import RunContext
from openai_compat.errors import Unavailable
from openai_compat.stores.open import open_store
from openai_compat.stores.port import Key, StoredResponse
from openai_compat_adapters.client import AsyncTransport
from tests.connecting import Connect, Http, in_process
from tests.requirements import requirement
from tests.support.agents import Says

pytestmark = pytest.mark.anyio

TOOL: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
FORMAT: Any = {"format": {"type": "json_schema", "name": "person", "schema": PERSON}}
ALL_KEYS = frozenset(
    [
        "id",
        "object",
        "created_at",
        "completed_at",
        "status",
        "incomplete_details",
        "model",
        "previous_response_id",
        "instructions",
        "output",
        "error",
        "tools",
        "tool_choice",
        "truncation",
        "parallel_tool_calls",
        "text",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "top_logprobs",
        "temperature",
        "reasoning",
        "usage",
        "max_output_tokens",
        "max_tool_calls",
        "store",
        "background",
        "service_tier",
        "metadata",
        "safety_identifier",
        "prompt_cache_key",
    ]
)


class Gate:
    """Says "a", waits to be opened, then says "b"."""

    def __init__(self) -> None:
        self.waiting, self.opened, self.stopped = anyio.Event(), anyio.Event(), anyio.Event()

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[str]:
        yield "a"
        self.waiting.set()
        try:
            await self.opened.wait()
        finally:
            self.stopped.set()
        yield "b"


async def outcome(client: openai.AsyncOpenAI, identifier: str) -> Any:
    """A background response, once it has an outcome."""
    with anyio.fail_after(10):
        while True:
            found = await client.responses.retrieve(identifier)
            if found.status not in ("queued", "in_progress"):
                return found
            await anyio.lowlevel.checkpoint()


async def whole(client: openai.AsyncOpenAI, **sent: Any) -> None:
    """Make a response, and read it to its end if it is streamed."""
    made = await client.responses.create(**sent)
    if sent["stream"]:
        [event async for event in made]


@requirement("responses.plain")
async def test_a_plain_answer_has_text_usage_and_every_key(http: Http) -> None:
    async with http(Says("Hel", "lo", UsageReported(3, 4))) as client:
        answer = await client.post("/v1/responses", json={"model": "agent", "input": "Hi", "metadata": {"k": "v"}})

    body = answer.json()
    assert answer.status_code == 200
    assert body.keys() >= ALL_KEYS
    assert (body["status"], body["metadata"], body["store"], body["background"]) == (
        "completed",
        {"k": "v"},
        True,
        False,
    )
    assert body["output"][0]["content"][0] == {
        "type": "output_text",
        "text": "Hello",
        "annotations": [],
        "logprobs": [],
    }
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"], body["usage"]["total_tokens"]) == (3, 4, 7)


@requirement("responses.stream")
async def test_a_stream_is_numbered_without_a_gap_and_comes_to_what_is_stored(connect: Connect) -> None:
    agent = Says(ReasoningDelta("hm"), "a", "b", ToolCallReady("c", "own", "{}"), ToolResult("c", "42"))
    async with connect(agent) as client:
        async with client.responses.stream(model="agent", input="Hi") as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        kept = await client.responses.retrieve(final.id)

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[1].type, events[-1].type] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    assert [item.type for item in final.output] == ["reasoning", "message", "mcp_call"]
    assert kept.output_text == final.output_text == "ab"


@requirement("responses.stream")
async def test_each_event_is_named_by_its_type_and_the_stream_ends_with_done(http: Http) -> None:
    async with http(Says("a")) as client:
        answer = await client.post("/v1/responses", json={"model": "agent", "input": "Hi", "stream": True})

    *frames, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all([frame.startswith(f"event: {json.loads(frame.partition('data: ')[2])['type']}\n") for frame in frames])
    assert "id:" not in answer.text.replace('"id":', "")


@requirement("responses.chain")
async def test_a_response_continues_another_and_chains_may_fork(connect: Connect) -> None:
    agent = Says("ok")
    async with connect(agent) as client:
        root = await client.responses.create(model="agent", input="one", instructions="Be brief.")
        left = await client.responses.create(model="agent", input="two", previous_response_id=root.id)
        await client.responses.create(model="agent", input="left", previous_response_id=left.id)
        await client.responses.create(model="agent", input="right", previous_response_id=root.id)

    said = [[m["content"] for m in request.raw_messages] for request in agent.requests]
    assert said == [
        ["Be brief.", "one"],
        ["one", "ok", "two"],
        ["one", "ok", "two", "ok", "left"],
        ["one", "ok", "right"],
    ]


@requirement("responses.chain")
async def test_a_response_that_is_unknown_deleted_or_somebody_elses_cannot_be_continued(connect: Connect) -> None:
    keys = {"hers": Principal("her"), "his": Principal("him")}
    async with connect(Says("ok"), keys=keys, api_key="hers") as client:
        mine = await client.responses.create(model="agent", input="one")
        gone = await client.responses.create(model="agent", input="one")
        await client.responses.delete(gone.id)
        him = client.with_options(api_key="his")
        for other, identifier in ((client, "resp_unknown"), (client, gone.id), (him, mine.id)):
            with pytest.raises(openai.BadRequestError) as refused:
                await other.responses.create(model="agent", input="two", previous_response_id=identifier)
            assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


@requirement("responses.kept")
async def test_what_another_principal_made_is_unknown_to_every_route(http: Http) -> None:
    keys = {"hers": Principal("her"), "his": Principal("him")}
    async with http(Says("ok"), keys=keys) as client:
        hers, his = {"Authorization": "Bearer hers"}, {"Authorization": "Bearer his"}
        body = {"model": "agent", "input": "Hi"}
        made = (await client.post("/v1/responses", json=body, headers=hers)).json()
        path = f"/v1/responses/{made['id']}"
        answers = [
            await client.get(path, headers=his),
            await client.get(path + "?stream=true", headers=his),
            await client.get(path + "/input_items", headers=his),
            await client.post(path + "/cancel", headers=his),
            await client.delete(path, headers=his),
        ]

    assert [(a.status_code, a.json()["error"]["code"]) for a in answers] == [(404, "response_not_found")] * 5


@requirement("responses.kept")
async def test_a_response_that_is_not_to_be_stored_is_not_there(connect: Connect) -> None:
    async with connect(Says("ok")) as client:
        made = await client.responses.create(model="agent", input="Hi", store=False)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(made.id)


@requirement("responses.kept")
async def test_what_a_response_was_made_from_can_be_listed(connect: Connect) -> None:
    items: Any = [{"role": "user", "content": f"{n}"} for n in range(3)]
    async with connect(Says("ok")) as client:
        made = await client.responses.create(model="agent", input=items)
        newest = await client.responses.input_items.list(made.id, limit=2)
        everything = [item async for item in client.responses.input_items.list(made.id, limit=2, order="asc")]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.input_items.list(made.id, after="nothing")

    assert [item.content[0].text for item in newest.data] == ["2", "1"]
    assert [item.content[0].text for item in everything] == ["0", "1", "2"]
    assert refused.value.param == "after"


@requirement("responses.conversation")
async def test_chat_and_responses_share_a_conversation(connect: Connect) -> None:
    agent = Says("ok")
    async with connect(agent, conversations=Conversations()) as client:
        chat: Any = [{"role": "user", "content": "one"}]
        await client.chat.completions.create(model="agent", messages=chat, extra_headers={"X-Conversation-Id": "trip"})
        made = await client.responses.create(model="agent", input="two", conversation="trip")
        chat = [{"role": "user", "content": "three"}]
        await client.chat.completions.create(model="agent", messages=chat, extra_headers={"X-Conversation-Id": "trip"})

    assert made.conversation is not None
    assert made.conversation.id == "trip"
    assert [m["content"] for m in agent.requests[-1].raw_messages] == ["one", "ok", "two", "ok", "three"]


@requirement("responses.conversation")
async def test_a_turn_that_fails_leaves_its_conversation_as_it_was(connect: Connect) -> None:
    async with connect({"good": Says("ok"), "bad": Says("half", ValueError("secret"))}) as client:
        conversation = await client.conversations.create()
        await client.responses.create(model="good", input="one", conversation=conversation.id)
        for stream in (True, False):
            with pytest.raises(openai.APIError) as failed:
                await whole(client, model="bad", input="two", conversation=conversation.id, stream=stream)
            assert "secret" not in str(failed.value.body)
        kept = await client.conversations.items.list(conversation.id, order="asc")

    assert [item.role for item in kept.data] == ["user", "assistant"]


@requirement("responses.wrong")
@pytest.mark.parametrize(
    ("sent", "status", "code", "param"),
    [
        ({"previous_response_id": "resp_1", "conversation": "c"}, 400, "invalid_value", "conversation"),
        ({"background": True, "store": False}, 400, "invalid_value", "background"),
        ({"conversation": "unknown"}, 404, "conversation_not_found", "conversation"),
        ({"model": "unknown"}, 404, "model_not_found", "model"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "1"}]}, 400, None, "input[0].call_id"),
        ({"input": [{"type": "item_reference", "id": "msg_x"}]}, 404, None, "input[0].id"),
        ({"temperature": 3}, 400, "invalid_value", "temperature"),
        ({"prompt": {"id": "p"}}, 400, "unsupported_parameter", "prompt"),
        ({"input": None}, 400, "missing_required_parameter", "input"),
        ({"max_output_tokens": 0}, 400, "invalid_value", "max_output_tokens"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": 7}}}}, 400, "invalid_json_schema", "text.format.schema"),
    ],
)  # fmt: skip
@in_process
async def test_a_request_that_makes_no_sense_says_where(
    http: Http, sent: dict[str, Any], status: int, code: str | None, param: str
) -> None:
    agent = Says("ok")
    async with http(agent) as client:
        answer = await client.post("/v1/responses", json={"model": "agent", "input": "Hi", **sent})

    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, param)
    assert code is None or error["code"] == code
    assert agent.requests == []


@requirement("responses.tools")
async def test_the_client_runs_its_tools_and_the_turn_goes_on(connect: Connect) -> None:
    class Looker:
        async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
            if request.resume is None:
                yield ToolCallReady("call_1", "look", '{"at":"it"}')
            else:
                yield request.resume.results["call_1"].text

    async with connect(Looker()) as client:
        asked = await client.responses.create(model="agent", input="Look", tools=[TOOL])
        call: Any = asked.output[0]
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "seen"}
        told = await client.responses.create(model="agent", input=[result], tools=[TOOL], previous_response_id=asked.id)

    assert (call.type, call.name, call.arguments) == ("function_call", "look", '{"at":"it"}')
    assert told.output_text == "seen"


class Careful:
    """Asks before it deletes; stores its knowledge in its state."""

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        if request.resume is None or not request.resume.decisions:
            yield Paused((PendingCall("call_1", "delete", '{"file":"a"}', "approval"),), {"step": 7})
            return
        decision = request.resume.decisions["call_1"]
        yield ToolResult("call_1", "gone", denied=not decision.approved)
        yield f"{decision.approved} {decision.reason} {request.resume.state}"


APPROVER: Any = {"type": "mcp", "server_label": "agent", "server_url": "https://example.org"}


@requirement("responses.approval")
@pytest.mark.parametrize("approve", [True, False])
async def test_an_approval_resumes_the_turn_once_with_the_agents_state(connect: Connect, approve: bool) -> None:
    async with connect(Careful()) as client:
        asked = await client.responses.create(model="agent", input="Clean up", tools=[APPROVER])
        request: Any = asked.output[-1]
        said: Any = [
            {
                "type": "mcp_approval_response",
                "approval_request_id": request.id,
                "approve": approve,
                "reason": "because",
            }
        ]
        told = await client.responses.create(model="agent", input=said, previous_response_id=asked.id, tools=[APPROVER])
        with pytest.raises(openai.ConflictError) as late:
            await client.responses.create(model="agent", input=said, previous_response_id=asked.id, tools=[APPROVER])

    assert (request.type, request.name, request.arguments) == ("mcp_approval_request", "delete", '{"file":"a"}')
    assert told.output_text == f"{approve} because {{'step': 7}}"
    assert late.value.code == "approval_decided"


class Meticulous:
    """Asks before it deletes, then reports the decision."""

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        if request.resume is None or not request.resume.decisions:
            yield Paused((PendingCall("call_1", "delete", '{"file":"a"}', "approval"),))
            return
        decision = request.resume.decisions["call_1"]
        yield f"{decision.always} {decision.arguments}"


@requirement("responses.approval")
@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "False None"),
        ({"always": False, "arguments": None}, "False None"),
        ({"always": True}, "True None"),
        ({"arguments": '{"file": "b"}'}, 'False {"file": "b"}'),
        ({"always": True, "arguments": {"file": "ö"}}, 'True {"file":"ö"}'),
    ],
)
@in_process
async def test_a_decision_may_be_for_always_and_for_other_arguments(
    connect: Connect, more: dict[str, Any], told: str
) -> None:
    async with connect(Meticulous()) as client:
        asked = await client.responses.create(model="agent", input="Clean up", tools=[APPROVER])
        said: Any = {"type": "mcp_approval_response", "approval_request_id": asked.output[-1].id, "approve": True}
        answer = await client.responses.create(
            model="agent", input=[said | more], previous_response_id=asked.id, tools=[APPROVER]
        )
    assert answer.output_text == told


@requirement("responses.approval")
@pytest.mark.parametrize(("field", "value"), [("always", "yes"), ("arguments", 7), ("arguments", ["file"])])
@in_process
async def test_a_decision_in_the_wrong_form_decides_nothing(connect: Connect, field: str, value: object) -> None:
    async with connect(Meticulous()) as client:
        asked = await client.responses.create(model="agent", input="Clean up", tools=[APPROVER])
        said: Any = {"type": "mcp_approval_response", "approval_request_id": asked.output[-1].id, "approve": True}
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(
                model="agent", input=[{**said, field: value}], previous_response_id=asked.id, tools=[APPROVER]
            )
        later = await client.responses.create(
            model="agent", input=[said], previous_response_id=asked.id, tools=[APPROVER]
        )
    assert str(refused.value.param).startswith(f"input[0].{field}")
    assert later.output_text == "False None"


@requirement("responses.approval")
@in_process
async def test_another_principal_cannot_approve(connect: Connect) -> None:
    keys = {"hers": Principal("her"), "his": Principal("him")}
    async with connect(Careful(), keys=keys, api_key="hers") as client:
        asked = await client.responses.create(model="agent", input="Clean up", tools=[APPROVER])
        him = client.with_options(api_key="his")
        said: Any = [
            {"role": "user", "content": "x"},
            {"type": "mcp_approval_response", "approval_request_id": asked.output[-1].id, "approve": True},
        ]
        with pytest.raises(openai.NotFoundError) as refused:
            await him.responses.create(model="agent", input=said, tools=[APPROVER])

    assert refused.value.code == "approval_not_found"


@requirement("responses.structured")
@in_process
async def test_an_answer_that_breaks_its_schema_is_a_failure_and_one_that_keeps_it_is_parsed(connect: Connect) -> None:
    class Person(pydantic.BaseModel):
        name: str

    async with connect({"good": Says('{"name":', '"Ann"}'), "bad": Says('{"name": 7}')}) as client:
        parsed = await client.responses.parse(model="good", input="Who?", text_format=Person)
        with pytest.raises(openai.InternalServerError) as failed:
            await client.responses.create(model="bad", input="Who?", text=FORMAT)

    assert parsed.output_parsed == Person(name="Ann")
    assert (failed.value.status_code, failed.value.code) == (502, "invalid_output")


class Repairing:
    """Answers in the wrong format first, and in the right one after a repair request."""

    capabilities = Capabilities(repairs_output=True)

    def __init__(self) -> None:
        self.requests: list[AgentRequest] = []

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        self.requests.append(request)
        yield UsageReported(1, 1)
        yield "Ann" if len(self.requests) == 1 else '{"name": "Ann"}'


@requirement("responses.structured")
@pytest.mark.parametrize("stream", [True, False])
async def test_an_agent_that_can_repair_its_answer_is_asked_once_more(connect: Connect, stream: bool) -> None:
    agent = Repairing()
    async with connect(agent) as client:
        if stream:
            async with client.responses.stream(model="agent", input="Who?", text=FORMAT) as made:
                final: Any = await made.get_final_response()
        else:
            final = await client.responses.create(model="agent", input="Who?", text=FORMAT)

    assert final.output_text == '{"name": "Ann"}'
    assert final.usage is not None
    assert final.usage.total_tokens == 4
    assert "not valid JSON" in agent.requests[1].prompt
    assert len(agent.requests) == 2


@requirement("responses.incomplete")
async def test_an_answer_that_is_cut_off_is_incomplete(connect: Connect) -> None:
    async with connect({"long": Says("a" * 400), "filtered": Says("a", Finished("content_filter"))}) as client:
        cut = await client.responses.create(model="long", input="Hi", max_output_tokens=16)
        filtered = await client.responses.create(model="filtered", input="Hi")

    assert cut.incomplete_details is not None
    assert filtered.incomplete_details is not None
    assert (cut.status, cut.incomplete_details.reason, len(cut.output_text)) == ("incomplete", "max_output_tokens", 64)
    assert filtered.incomplete_details.reason == "content_filter"


@requirement("responses.background")
@in_process
async def test_a_background_response_is_queued_polled_and_completed(connect: Connect) -> None:
    gate = Gate()
    async with connect(gate) as client:
        made = await client.responses.create(model="agent", input="Hi", background=True)
        await gate.waiting.wait()
        running = await client.responses.retrieve(made.id)
        gate.opened.set()
        final = await outcome(client, made.id)

    assert (made.status, running.status, running.output_text) == ("queued", "in_progress", "a")
    assert (final.status, final.output_text) == ("completed", "ab")


@requirement("responses.background")
@in_process
async def test_a_background_response_is_cancelled_once_and_stays_so(connect: Connect) -> None:
    gate = Gate()
    async with connect(gate) as client:
        made = await client.responses.create(model="agent", input="Hi", background=True)
        await gate.waiting.wait()
        first = await client.responses.cancel(made.id)
        again = await client.responses.cancel(made.id)
        with anyio.fail_after(5):
            await gate.stopped.wait()
        foreground = await client.responses.create(model="agent", input="Hi", background=True)
        gate.opened.set()
        await outcome(client, foreground.id)

    assert (first.status, first.output_text, again.status) == ("cancelled", "a", "cancelled")


@requirement("responses.background")
@in_process
async def test_only_background_responses_can_be_cancelled(connect: Connect) -> None:
    async with connect(Says("ok")) as client:
        made = await client.responses.create(model="agent", input="Hi")
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.cancel(made.id)

    assert refused.value.code == "response_not_background"


@requirement("responses.resume")
@in_process
async def test_a_background_stream_can_be_followed_from_any_event_while_it_runs_and_after(connect: Connect) -> None:
    gate = Gate()
    async with connect(gate) as client:
        stream = await client.responses.create(model="agent", input="Hi", background=True, stream=True)
        first = await anext(aiter(stream))
        identifier = first.response.id
        await stream.close()
        await gate.waiting.wait()
        running = await client.responses.retrieve(identifier, stream=True, starting_after=0)
        gate.opened.set()
        live = [event async for event in running]
        after = [event async for event in await client.responses.retrieve(identifier, stream=True)]

    assert after[-1].type == "response.completed"
    assert [event.sequence_number for event in after] == list(range(len(after)))
    assert live == after[1:]


@requirement("responses.resume")
@in_process
async def test_a_response_without_a_log_says_that_it_cannot_be_followed(http: Http) -> None:
    async with http(Says("ok")) as client:
        made = (await client.post("/v1/responses", json={"model": "agent", "input": "Hi"})).json()
        answer = await client.get(f"/v1/responses/{made['id']}?stream=true")
        wrong = await client.get(f"/v1/responses/{made['id']}?stream=true&starting_after=x")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "events_not_kept")
    assert wrong.json()["error"]["param"] == "starting_after"


@requirement("responses.resume")
@in_process
async def test_a_response_whose_process_died_before_it_kept_what_it_had_sent_still_has_an_end(
    http: Http, tmp_path: Path
) -> None:
    """A client that saw more events than were stored gets an error, not silence."""
    store = open_store(f"sqlite:///{tmp_path / 'state.db'}")
    stored = StoredResponse(id="resp_1", created=0.0, status="queued", body='{"id":"resp_1"}', background=True)
    await store.begin_response("anonymous", stored, "a process that is gone", lease=0)
    async with http(Says("ok"), store=store) as client:
        events = await client.get("/v1/responses/resp_1?stream=true")
        ended = await client.get("/v1/responses/resp_1?stream=true&starting_after=2")
        beyond = await client.get("/v1/responses/resp_1?stream=true&starting_after=5")

    names = [line.removeprefix("event: ") for line in events.text.splitlines() if line.startswith("event: ")]
    assert names == ["response.created", "error", "response.failed"]
    assert (ended.status_code, ended.text.strip()) == (200, "data: [DONE]")
    error = beyond.json()["error"]
    assert (beyond.status_code, error["code"], error["param"]) == (400, "events_not_kept", "starting_after")


@requirement("responses.detach")
@in_process
async def test_a_response_whose_client_left_is_found_by_its_id_where_turns_are_detached(connect: Connect) -> None:
    gate, store = Gate(), MemoryStore()
    async with connect(gate, store=store, disconnect=Disconnect("detach")) as client:
        stream = await client.responses.create(model="agent", input="Hi", stream=True)
        first = await anext(aiter(stream))
        await stream.close()
        gate.opened.set()
        final = await outcome(client, first.response.id)

    assert (final.status, final.output_text) == ("completed", "ab")


@requirement("responses.disconnect")
@in_process
async def test_a_foreground_response_is_stopped_when_its_client_leaves(connect: Connect) -> None:
    gate = Gate()
    async with connect(gate) as client:
        stream = await client.responses.create(model="agent", input="Hi", stream=True)
        first = await anext(aiter(stream))
        await stream.close()
        with anyio.fail_after(5):
            await gate.stopped.wait()
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(first.response.id)


@requirement("responses.failure")
async def test_a_failure_before_the_first_word_has_its_status_and_a_later_one_is_told_in_the_stream(http: Http) -> None:
    agents = {"early": Says(ValueError("secret")), "late": Says("half", ValueError("secret"), paced=True)}
    async with http(agents) as client:
        early = await client.post("/v1/responses", json={"model": "early", "input": "Hi", "stream": True})
        late = await client.post("/v1/responses", json={"model": "late", "input": "Hi", "stream": True})

    frames = [json.loads(frame.partition("data: ")[2]) for frame in late.text.split("\n\n")[:-2]]
    assert (early.status_code, early.json()["error"]["code"]) == (500, "agent_error")
    assert [frame["type"] for frame in frames[-2:]] == ["error", "response.failed"]
    assert frames[-2]["message"] == frames[-2]["error"]["message"] == "The agent failed."
    assert frames[-1]["response"]["status"] == "failed"
    assert frames[-1]["response"]["error"]["code"] == "invalid_prompt"
    assert "secret" not in early.text + late.text


@requirement("responses.failure")
@in_process
async def test_a_background_failure_is_kept_with_its_error(connect: Connect) -> None:
    async with connect(Says("half", ValueError("secret"))) as client:
        made = await client.responses.create(model="agent", input="Hi", background=True)
        final = await outcome(client, made.id)

    assert final.error is not None
    assert (final.status, final.error.message, final.output_text) == ("failed", "The agent failed.", "half")


@requirement("responses.deadline")
@in_process
async def test_background_responses_have_a_deadline_of_their_own(connect: Connect) -> None:
    async with connect(Gate(), deadlines=Deadlines(request=30, background=0.2)) as client:
        made = await client.responses.create(model="agent", input="Hi", background=True)
        final = await outcome(client, made.id)

    assert final.status == "failed"


@requirement("responses.drain")
async def test_a_background_response_that_the_shutdown_ends_has_an_outcome() -> None:

    gate, store = Gate(), MemoryStore()
    server = Server(gate, store=store)
    async with httpx2.AsyncClient(transport=AsyncTransport(server), base_url="http://localhost") as client:
        made = (await client.post("/v1/responses", json={"model": "agent", "input": "Hi", "background": True})).json()
        await gate.waiting.wait()
        await server.drain(0)

    kept = await store.response(Key("anonymous", made["id"]))
    assert kept is not None
    assert kept.status == "failed"


@requirement("responses.compact")
@in_process
async def test_a_conversation_is_compacted_and_goes_on_from_the_summary(connect: Connect) -> None:
    agent = Says("in short")
    async with connect(agent) as client:
        first = await client.responses.create(model="agent", input="A long story")
        compacted = await client.responses.compact(model="agent", previous_response_id=first.id)
        summary: Any = compacted.output[0].model_dump(exclude_none=True)
        counted = await client.responses.input_tokens.count(model="agent", input="Hi")
        await client.responses.create(model="agent", input=[summary, {"role": "user", "content": "And then?"}])

    assert compacted.object == "response.compaction"
    assert counted.input_tokens > 0
    assert "in short" in agent.requests[-1].raw_messages[0]["content"]
    assert agent.requests[-1].prompt == "And then?"


@requirement("responses.limits")
async def test_one_call_of_its_own_tools_too_many_ends_the_turn(connect: Connect) -> None:
    calls = [event for n in range(3) for event in (ToolCallReady(f"c{n}", "own", "{}"), ToolResult(f"c{n}", "ok"))]
    async with connect(Says(*calls, "done")) as client:
        cut = await client.responses.create(model="agent", input="Hi", max_tool_calls=2)
        whole = await client.responses.create(model="agent", input="Hi", max_tool_calls=3)

    assert (cut.status, [item.type for item in cut.output]) == ("incomplete", ["mcp_call", "mcp_call"])
    assert (whole.status, whole.output_text) == ("completed", "done")


class Forgetful:
    """Accepts at most three messages."""

    def __init__(self) -> None:
        self.said: list[list[str]] = []

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[str]:
        self.said.append([m["content"] for m in request.raw_messages])
        if len(request.messages) > 3:
            raise AgentError("Too long.", status=400, code="context_length_exceeded")
        yield "ok"


@requirement("responses.limits")
async def test_a_conversation_that_is_too_long_is_cut_at_its_beginning_if_the_client_wants_that(
    connect: Connect,
) -> None:
    said: Any = [{"role": role, "content": f"{role} {n}"} for n in range(4) for role in ("user", "assistant")]
    said += [{"role": "user", "content": "now"}]
    agent = Forgetful()
    async with connect(agent) as client:
        answer = await client.responses.create(model="agent", input=said, instructions="Be kind.", truncation="auto")
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="agent", input=said)

    assert answer.output_text == "ok"
    assert agent.said[-2] == ["Be kind.", "now"]
    assert refused.value.code == "context_length_exceeded"


class TwoQuestions:
    """Asks about two calls at once; asks again about those that were not decided."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        left = ["call_1", "call_2"]
        if request.resume is not None and request.resume.state is not None:
            left = list(request.resume.state["left"])
            for call_id in [call_id for call_id in left if call_id in request.resume.decisions]:
                left.remove(call_id)
                self.ran.append(call_id)
                yield ToolResult(call_id, "done")
        if left:
            yield Paused(tuple([PendingCall(c, "act", "{}", "approval") for c in left]), {"left": left})


@requirement("responses.approval")
@in_process
async def test_a_turn_that_asks_twice_goes_on_once_from_each_state(connect: Connect) -> None:
    agent = TwoQuestions()
    async with connect(agent) as client:

        async def decide(before: Any, request: Any) -> Any:
            said: Any = [{"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}]
            return await client.responses.create(
                model="agent", input=said, previous_response_id=before.id, tools=[APPROVER]
            )

        first = await client.responses.create(model="agent", input="Act", tools=[APPROVER])
        second = await decide(first, first.output[0])
        with pytest.raises(openai.ConflictError):
            await decide(first, first.output[1])
        await decide(second, second.output[-1])

    assert agent.ran == ["call_1", "call_2"]


@requirement("approval.text")
async def test_a_client_without_an_mcp_tool_is_asked_and_answers_in_text(connect: Connect) -> None:
    async with connect(Careful()) as client:
        asked = await client.responses.create(model="agent", input="Clean up")
        told = await client.responses.create(model="agent", input="yes", previous_response_id=asked.id)
        with pytest.raises(openai.ConflictError):
            await client.responses.create(model="agent", input="yes", previous_response_id=asked.id)

    assert "Answer yes, no or always. [mcpr_" in asked.output_text
    assert told.output_text == "True None {'step': 7}"


@requirement("responses.conversation")
async def test_a_client_that_sends_its_whole_history_with_a_conversation_header_doubles_nothing(
    connect: Connect,
) -> None:
    agent = Says("ok")
    history: Any = []
    async with connect(agent, conversations=Conversations()) as client:
        for text in ("one", "two", "three"):
            history.append({"role": "user", "content": text})
            made = await client.responses.create(
                model="agent", input=history, store=False, extra_headers={"X-Conversation-Id": "trip"}
            )
            history += [item.model_dump(exclude_none=True) for item in made.output]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="agent", input=history, extra_headers={"X-Conversation-Id": "trip"})

    assert [m["content"] for m in agent.requests[-1].raw_messages] == ["one", "ok", "two", "ok", "three"]
    assert refused.value.param == "input"


class Away(MemoryStore):
    """A store that cannot be reached."""

    async def check(self) -> None:
        raise Unavailable("away", code="store_unavailable")


@requirement("responses.kept")
@in_process
async def test_no_agent_is_run_for_an_answer_that_could_not_be_kept(connect: Connect) -> None:
    agent = Says("ok")
    async with connect(agent, store=Away()) as client:
        for kept in (
            client.responses.create(model="agent", input="Hi"),
            client.chat.completions.create(model="agent", messages=[{"role": "user", "content": "Hi"}], store=True),
        ):
            with pytest.raises(openai.InternalServerError) as refused:
                await kept
            assert (refused.value.status_code, refused.value.code) == (503, "store_unavailable")
        assert agent.requests == []
        await client.responses.create(model="agent", input="Hi", store=False)
