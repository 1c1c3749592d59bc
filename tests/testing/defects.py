"""Servers and agents with one defect each, and the check that must find it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

from openai_compat import (
    AgentError,
    AgentRequest,
    Capabilities,
    Decision,
    Finished,
    Paused,
    PendingCall,
    Progress,
    RunContext,
    Server,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
    as_backend,
)
from openai_compat.http import HttpRequest, Send
from openai_compat.testing import Conformance
from openai_compat.testing.conformance.approvals import OTHER_PROMPT
from tests.testing.agents import Approving, counter, handwritten, reference
from tests.testing.agents import _reference as undeclared
from tests.testing.distortion import RUNS_ON, Buffering, Distorted, RunningOn, RunningTwice, whole_body, with_body

Chunk = dict[str, Any]

DEFECTS: dict[str, set[str]] = {}
"""The checks that must fail, by the name of the suite."""

LEAVING = {
    "test_the_agent_stops_when_the_client_leaves_a_plain_request",
    "test_the_agent_stops_when_the_client_leaves_before_the_first_piece",
    "test_the_agent_stops_when_the_client_leaves_between_two_pieces",
    "test_the_agent_stops_when_the_client_leaves_while_a_piece_is_written",
}


def found_by(*checks: str) -> Callable[[type[Conformance]], type[Conformance]]:
    def register(suite: type[Conformance]) -> type[Conformance]:
        DEFECTS[suite.__name__] = set(checks)
        return suite

    return register


class Suite(Conformance):
    patience = 1.0
    settle = 0.01
    tool_prompt = "What is the weather?"


def delta(chunk: Chunk) -> Chunk:
    """The delta of a chunk; an unconnected empty one if the chunk has none."""
    return chunk["choices"][0]["delta"] if chunk.get("choices") else {}


def call_piece(chunk: Chunk) -> Chunk:
    return delta(chunk).get("tool_calls", [{}])[0]


def ends(chunk: Chunk) -> bool:
    return bool(chunk.get("choices")) and chunk["choices"][0]["finish_reason"] is not None


def also(chunk: Chunk, done: object) -> Chunk:
    """The chunk, after `done` has changed a part of it."""
    return chunk


def changed(chunk: Chunk, **fields: Any) -> Chunk:
    return {**chunk, **fields}


# stream format


@found_by("test_a_stream_is_sent_as_an_event_stream")
class StreamAsText(Suite):
    agent = Distorted(head=lambda headers, status: headers.update(_text_stream(headers)))


def _text_stream(headers: dict[str, str]) -> dict[str, str]:
    return {"content-type": headers["content-type"].replace("text/event-stream", "text/plain")}


@found_by("test_a_stream_is_sent_as_an_event_stream")
class StreamThatMayBeCached(Suite):
    agent = Distorted(head=lambda headers, status: headers.pop("cache-control"))


@found_by("test_a_stream_is_framed_as_one_data_line_for_each_event")
class EventLines(Suite):
    agent = Distorted(event=lambda data, asked: b"event: message\n" + data)


@found_by("test_a_stream_is_framed_as_one_data_line_for_each_event")
class CarriageReturns(Suite):
    agent = Distorted(event=lambda data, asked: data.replace(b"\n\n", b"\r\n\r\n"))


@found_by("test_a_stream_is_framed_as_one_data_line_for_each_event")
class UnterminatedLastEvent(Suite):
    agent = Distorted(event=lambda data, asked: data.rstrip() if b"[DONE]" in data else data)


@found_by("test_a_stream_is_framed_as_one_data_line_for_each_event")
class CommentInsideAnEvent(Suite):
    agent = Distorted(event=lambda data, asked: b": keep-alive\n" + data)


@found_by("test_a_stream_is_framed_as_one_data_line_for_each_event")
class NoSpaceAfterData(Suite):
    agent = Distorted(event=lambda data, asked: data.replace(b"data: ", b"data:", 1))


@found_by("test_every_event_of_a_stream_is_a_chunk")
class ChunkWithoutFinishReasonKey(Suite):
    @staticmethod
    def _without(chunk: Chunk) -> Chunk:
        if chunk.get("choices") and not ends(chunk):
            del chunk["choices"][0]["finish_reason"]
        return chunk

    agent = Distorted(chunk=_without)


@found_by("test_every_event_of_a_stream_is_a_chunk")
class ChunkOfTheWrongKind(Suite):
    agent = Distorted(chunk=lambda chunk: changed(chunk, object="chat.completion") if "choices" in chunk else chunk)


@found_by("test_every_event_of_a_stream_is_a_chunk")
class CreatedAsText(Suite):
    agent = Distorted(chunk=lambda chunk: changed(chunk, created="now") if "choices" in chunk else chunk)


@found_by("test_every_event_of_a_stream_is_a_chunk")
class EventThatIsNoJson(Suite):
    agent = Distorted(event=lambda data, asked: b"data: thinking\n\n" + data if b"world" in data else data)


@found_by("test_every_chunk_has_the_same_identity")
class NewIdForEachChunk(Suite):
    agent = Distorted(chunk=lambda chunk: changed(chunk, id=f"x-{next(counter)}") if "choices" in chunk else chunk)


@found_by("test_every_chunk_has_the_same_identity")
class CreatedMoves(Suite):
    agent = Distorted(chunk=lambda chunk: changed(chunk, created=next(counter)) if "choices" in chunk else chunk)


@found_by("test_every_chunk_has_the_same_identity")
class ModelBehindTheAgentShown(Suite):
    agent = Distorted(chunk=lambda chunk: changed(chunk, model="gpt-behind-it") if "choices" in chunk else chunk)


@found_by("test_a_stream_says_the_role_once_and_first")
class RoleInEveryChunk(Suite):
    agent = Distorted(chunk=lambda chunk: also(chunk, delta(chunk).update(role="assistant")))


@found_by("test_a_stream_says_the_role_once_and_first")
class NoRole(Suite):
    agent = Distorted(chunk=lambda chunk: also(chunk, delta(chunk).pop("role", None)))


@found_by("test_a_stream_says_one_finish_reason_and_says_it_last")
class TwoFinishReasons(Suite):
    agent = Distorted(chunk=lambda chunk: [chunk, chunk] if ends(chunk) else chunk)


@found_by("test_a_stream_says_one_finish_reason_and_says_it_last")
class NoFinishReason(Suite):
    agent = Distorted(chunk=lambda chunk: None if ends(chunk) and not asked_for_calls(chunk) else chunk)


def asked_for_calls(chunk: Chunk) -> bool:
    return chunk["choices"][0]["finish_reason"] == "tool_calls"


@found_by("test_a_stream_says_one_finish_reason_and_says_it_last")
class ChunkAfterTheFinishReason(Suite):
    @staticmethod
    def _and_another(chunk: Chunk) -> Any:
        if not ends(chunk):
            return chunk
        return [chunk, changed(chunk, choices=[{"index": 0, "delta": {"content": ""}, "finish_reason": None}])]

    agent = Distorted(chunk=_and_another)


@found_by("test_a_stream_ends_with_done_and_nothing_after_it")
class NoDone(Suite):
    agent = Distorted(event=lambda data, asked: b"" if b"[DONE]" in data else data)


@found_by("test_a_stream_ends_with_done_and_nothing_after_it")
class DataAfterDone(Suite):
    agent = Distorted(event=lambda data, asked: data + b'data: {"cost": 1}\n\n' if b"[DONE]" in data else data)


@found_by("test_a_piece_is_sent_before_the_next_one_is_made")
class BuffersTheStream(Suite):
    agent = Buffering(reference)


@found_by("test_usage_comes_in_one_last_chunk_and_only_when_asked_for")
class UsageInTheMiddle(Suite):
    @staticmethod
    def _early(data: bytes, asked: Chunk) -> bytes:
        if not (asked.get("stream_options") or {}).get("include_usage") or b'"content":"world"' not in data:
            return data
        chunk = json.loads(data.removeprefix(b"data: "))
        chunk["usage"] = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    agent = Distorted(event=_early)


@found_by("test_usage_comes_in_one_last_chunk_and_only_when_asked_for")
class UsageNobodyAskedFor(Suite):
    @staticmethod
    def _always(data: bytes, asked: Chunk) -> bytes:
        if asked.get("stream_options") or b'"finish_reason":"stop"' not in data:
            return data
        chunk = json.loads(data.removeprefix(b"data: "))
        chunk |= {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
        return data + b"data: " + json.dumps(chunk).encode() + b"\n\n"

    agent = Distorted(event=_always)


# plain answers, and both


@found_by("test_a_plain_answer_has_every_key_that_strict_clients_need")
class NullToolCalls(Suite):
    @staticmethod
    def _with_null(body: Chunk) -> Chunk:
        for choice in body.get("choices", ()):
            choice["message"].setdefault("tool_calls", None)
        return body

    agent = Distorted(whole=_with_null)


@found_by("test_a_plain_answer_has_every_key_that_strict_clients_need")
class NoRefusalKey(Suite):
    @staticmethod
    def _without(body: Chunk) -> Chunk:
        for choice in body.get("choices", ()):
            del choice["message"]["refusal"]
        return body

    agent = Distorted(whole=_without)


@found_by("test_a_plain_answer_has_every_key_that_strict_clients_need")
class PlainAnswerWithoutUsage(Suite):
    agent = Distorted(whole=lambda body: {key: value for key, value in body.items() if key != "usage"})


@found_by("test_streamed_and_plain_answers_say_the_same")
class SaysMoreWhenStreamed(Suite):
    async def agent(request: AgentRequest) -> AsyncIterator[str]:
        if request.resume or request.tools:
            async for item in reference.run(request, None):
                yield item
            return
        yield "Hello"
        if request.stream:
            yield " (streaming)"


@found_by("test_streamed_and_plain_answers_say_the_same")
class AnotherFinishReasonWhenPlain(Suite):
    @staticmethod
    def _cut(body: Chunk) -> Chunk:
        for choice in body.get("choices", ()):
            if choice["finish_reason"] == "stop":
                choice["finish_reason"] = "length"
        return body

    agent = Distorted(whole=_cut)


@found_by("test_every_answer_has_an_id_of_its_own")
class OneIdForAll(Suite):
    agent = Distorted(
        chunk=lambda chunk: changed(chunk, id="chatcmpl-1") if "choices" in chunk else chunk,
        whole=lambda body: changed(body, id="chatcmpl-1"),
    )


@found_by("test_usage_adds_up")
class UsageNotSummed(Suite):
    """Reports only the last of the agent's two usage reports."""

    @staticmethod
    def _last(body: Chunk) -> Chunk:
        last = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
        return changed(body, usage=last) if body.get("usage") else body

    agent = Distorted(chunk=_last, whole=_last)


@found_by("test_usage_adds_up")
class TotalThatIsNoTotal(Suite):
    @staticmethod
    def _wrong(body: Chunk) -> Chunk:
        if body.get("usage"):
            body["usage"]["total_tokens"] += 1
        return body

    agent = Distorted(whole=_wrong)


@found_by("test_the_model_is_listed")
class ModelWithoutCreated(Suite):
    @staticmethod
    def _without(body: Chunk) -> Chunk:
        for model in body.get("data", ()):
            del model["created"]
        return body

    agent = Distorted(whole=_without)


class _Strict(Server):
    async def handle(self, request: HttpRequest, send: Send) -> None:
        asked, request = await whole_body(request)
        if "x_new_field" in asked:
            request = HttpRequest(request.method, "/unknown", "", request.headers, request.body)
        await super().handle(request, send)


@found_by("test_fields_that_nobody_knows_are_ignored")
class RefusesUnknownFields(Suite):
    agent = _Strict(reference)


class _Credulous(Server):
    async def handle(self, request: HttpRequest, send: Send) -> None:
        asked, request = await whole_body(request)
        if isinstance(asked.get("messages"), str):
            asked["messages"] = [{"role": "user", "content": asked["messages"]}]

            async def body() -> AsyncIterator[bytes]:
                yield json.dumps(asked).encode()

            request = HttpRequest(request.method, request.path, "", [(b"host", b"localhost")], body())
        await super().handle(request, send)


@found_by("test_a_request_that_is_wrong_is_refused_before_the_agent_runs")
class AnswersWhatIsNoConversation(Suite):
    agent = _Credulous(reference)


@found_by("test_one_request_is_one_run")
class RunsTwice(Suite):
    agent = RunningTwice(reference)


class _Shared:
    """Stores the text of the turn in the object, which all turns share."""

    def __init__(self) -> None:
        self.words: list[str] = []

    async def run(self, prompt: str) -> AsyncIterator[str]:
        self.words.clear()
        for word in ("one ", "two ", "three"):
            await asyncio.sleep(0.01)
            self.words.append(word)
            yield f"{len(self.words)} "


@found_by("test_answers_made_at_the_same_time_do_not_mix")
class TurnsShareState(Suite):
    agent = _Shared()


@found_by("test_nothing_runs_on_after_the_answer")
class LeavesATaskBehind(Suite):
    patience = 0.6

    async def agent(prompt: str) -> AsyncIterator[str]:
        yield "Hello, "
        yield "world"
        tasks.append(asyncio.create_task(asyncio.sleep(RUNS_ON), name="book-keeping"))


tasks: list[Any] = []


@found_by("test_the_event_loop_is_never_held_up")
class BlocksTheEventLoop(Suite):
    stall = 0.15

    async def agent(prompt: str) -> AsyncIterator[str]:
        time.sleep(0.25)
        yield "Hello, "
        yield "world"


# tools


@found_by("test_the_agents_own_tools_are_not_shown_as_tool_calls")
class OwnToolsShownAsCalls(Suite):
    @staticmethod
    def _shown(chunk: Chunk) -> Any:
        if "clock" not in json.dumps(chunk.get("event", "")):
            return chunk
        call = {"index": 0, "id": "own_1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
        choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
        return changed(chunk, choices=[choice])

    agent = Distorted(chunk=_shown)


@found_by("test_the_agent_calls_the_clients_tool")
class LosesCallsInStreams(Suite):
    agent = Distorted(chunk=lambda chunk: None if call_piece(chunk) else chunk)


@found_by("test_the_pieces_of_a_tool_call_fit_together")
class CallsWithoutIndex(Suite):
    agent = Distorted(chunk=lambda chunk: also(chunk, call_piece(chunk).pop("index", None)))


@found_by("test_the_pieces_of_a_tool_call_fit_together")
class IdInEveryPieceOfACall(Suite):
    @staticmethod
    def _again(chunk: Chunk) -> Chunk:
        if call_piece(chunk):
            call_piece(chunk).setdefault("id", "call_again")
        return chunk

    agent = Distorted(chunk=_again)


@found_by("test_the_pieces_of_a_tool_call_fit_together")
class CallsWithoutType(Suite):
    agent = Distorted(chunk=lambda chunk: also(chunk, call_piece(chunk).pop("type", None)))


class _TwoCalls(Suite):
    @staticmethod
    async def both(request: AgentRequest) -> AsyncIterator[Any]:
        if request.resume:
            yield "4711"
        elif request.tools:
            yield ToolCallReady("call_a", "conformance_kit_weather", '{"city": "Paris"}')
            yield ToolCallReady("call_b", "conformance_kit_weather", '{"city": "Rome"}')
        else:
            yield "Hello, "
            yield "world"


@found_by("test_the_pieces_of_a_tool_call_fit_together")
class TwoCallsWithOneId(_TwoCalls):
    @staticmethod
    def _same(chunk: Chunk) -> Chunk:
        if "id" in call_piece(chunk):
            call_piece(chunk)["id"] = "call_a"
        return chunk

    agent = Distorted(_TwoCalls.both, chunk=_same)


@found_by("test_streamed_and_plain_answers_call_the_same")
class AnotherOrderOfCallsWhenPlain(_TwoCalls):
    @staticmethod
    def _backwards(body: Chunk) -> Chunk:
        for choice in body.get("choices", ()):
            choice["message"].get("tool_calls", []).reverse()
        return body

    agent = Distorted(_TwoCalls.both, whole=_backwards)


class _Calls(Suite):
    """An agent that calls the client's tool and does one thing wrong."""

    arguments = '{"city": "Paris"}'

    @classmethod
    def calling(cls, arguments: str, answer: str) -> Any:
        async def agent(request: AgentRequest) -> AsyncIterator[Any]:
            if request.resume:
                yield answer
            elif request.tools:
                yield ToolCallReady("call_1", "conformance_kit_weather", arguments)
            else:
                yield "Hello, "
                yield "world"

        return staticmethod(agent)


@found_by("test_a_tool_calls_arguments_are_a_json_object")
class ArgumentsThatAreNoJson(Suite):
    agent = _Calls.calling("{city: 'Paris'}", "4711")


@found_by("test_a_tools_result_reaches_the_agent")
class IgnoresToolResults(Suite):
    agent = _Calls.calling('{"city": "Paris"}', "I cannot tell.")


@found_by("test_an_answer_with_tool_calls_finishes_for_tool_calls")
class StopsWithToolCalls(Suite):
    @staticmethod
    def _stop(body: Chunk) -> Chunk:
        for choice in body.get("choices", ()):
            if choice["finish_reason"] == "tool_calls":
                choice["finish_reason"] = "stop"
        return body

    agent = Distorted(chunk=_stop, whole=_stop)


@found_by("test_only_tools_that_may_be_called_are_called")
class CallsWhatWasNotOffered(Suite):
    @staticmethod
    def _other(body: Chunk) -> Chunk:
        return json.loads(json.dumps(body).replace("conformance_kit_weather", "get_stock_price"))

    agent = Distorted(chunk=_other, whole=_other)


@found_by("test_only_tools_that_may_be_called_are_called")
class CallsAlthoughNoneMayBeCalled(Suite):
    async def agent(request: AgentRequest) -> AsyncIterator[Any]:
        if request.resume:
            yield "4711"
        elif "weather" in request.prompt:
            yield ToolCallReady("call_1", "conformance_kit_weather", '{"city": "Paris"}', "client")
        else:
            yield "Hello, "
            yield "world"


# failures


@found_by("test_a_failed_run_is_an_error_and_never_an_answer")
class Apologises(Suite):
    failing_prompt = "Please fail."

    async def agent(prompt: str) -> AsyncIterator[str]:
        try:
            if "fail" in prompt:
                raise RuntimeError("broken")
            yield "Hello, "
            yield "world"
        except RuntimeError:
            yield "Sorry, something went wrong."


def _is_error(chunk: Chunk) -> bool:
    return "error" in chunk


@found_by("test_a_stream_that_fails_midway_ends_with_an_error")
class HidesFailuresInStreams(Suite):
    agent = Distorted(chunk=lambda chunk: None if _is_error(chunk) else chunk)


@found_by("test_a_stream_that_fails_midway_ends_with_an_error")
class FinishesFailedStreams(Suite):
    @staticmethod
    def _finished(chunk: Chunk) -> Any:
        if not _is_error(chunk):
            return chunk
        head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "agent"}
        return [{**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, chunk]

    agent = Distorted(chunk=_finished)


@found_by("test_a_stream_that_fails_midway_ends_with_an_error")
class ErrorTogetherWithChoices(Suite):
    @staticmethod
    def _with_choices(chunk: Chunk) -> Chunk:
        choices = [{"index": 0, "delta": {}, "finish_reason": None}]
        return changed(chunk, choices=choices) if _is_error(chunk) else chunk

    agent = Distorted(chunk=_with_choices)


@found_by("test_an_error_tells_nothing_that_was_not_written_for_the_client")
class LeaksExceptionTexts(Suite):
    @staticmethod
    def _leaking(body: Chunk) -> Chunk:
        if body["error"]["code"] == "agent_error":
            body["error"]["message"] = "RuntimeError: secret-5f1c9e of /srv/agent/keys.py"
        return body

    agent = Distorted(error=_leaking)


@found_by("test_an_error_tells_nothing_that_was_not_written_for_the_client")
class LeaksItsOwnFailure(Suite):
    failing_prompt = "Please fail."

    async def agent(prompt: str) -> AsyncIterator[str]:
        yield "Hello, "
        if "fail" in prompt:
            raise AgentError('Traceback (most recent call last):\n  File "agent.py", line 1, in key sk-123')
        yield "world"


@found_by("test_every_error_has_the_whole_envelope")
class ErrorWithoutParam(Suite):
    @staticmethod
    def _without(body: Chunk) -> Chunk:
        return {"error": {key: value for key, value in body["error"].items() if key != "param"}}

    agent = Distorted(error=_without)


@found_by("test_every_error_has_the_whole_envelope")
class ErrorAsDetail(Suite):
    agent = Distorted(error=lambda body: {"detail": body["error"]["message"]})


@found_by("test_a_failed_run_is_not_repeated")
class FailedRunsAreRepeated(Suite):
    agent = Distorted(head=lambda headers, status: headers.pop("x-should-retry", None))


@found_by("test_a_failed_run_is_not_repeated")
class ErrorTypeThatIsRetried(Suite):
    @staticmethod
    def _retried(chunk: Chunk) -> Chunk:
        if _is_error(chunk):
            chunk["error"]["type"] = "server_error"
        return chunk

    agent = Distorted(chunk=_retried)


# the contract of events


class Contract(Suite):
    own_tool_prompt = "Look it up yourself."


def breaking(*items: Any) -> Any:
    """An agent that outputs these items only for the prompt that uses its own tool."""

    async def agent(request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        if request.prompt == Contract.own_tool_prompt:
            for item in items:
                yield item
        else:
            async for item in reference.run(request, context):
                yield item

    return agent


LOOKED = ToolCallReady("c", "look", '{"at": 1}')
PENDING = PendingCall("c", "delete", "{}", "approval")


@found_by("test_the_agents_events_keep_to_their_contract")
class UsesACallIdTwice(Contract):
    agent = breaking(LOOKED, ToolResult("c", "sun"), ToolCallReady("c", "look", '{"at": 2}'))


@found_by("test_the_agents_events_keep_to_their_contract")
class BeginsACallTwice(Contract):
    agent = breaking(ToolCallStarted("c", "look"), ToolCallStarted("c", "see"), ToolResult("c", "sun"))


@found_by("test_the_agents_events_keep_to_their_contract")
class TellsOtherArgumentsInTheEnd(Contract):
    agent = breaking(ToolCallStarted("c", "look"), ToolCallDelta("c", '{"at": 2}'), LOOKED, ToolResult("c", "sun"))


@found_by("test_the_agents_events_keep_to_their_contract")
class TellsAnotherNameInTheEnd(Contract):
    agent = breaking(ToolCallStarted("c", "see"), LOOKED, ToolResult("c", "sun"))


@found_by("test_the_agents_events_keep_to_their_contract")
class SendsArgumentsOfAClosedCall(Contract):
    agent = breaking(LOOKED, ToolCallDelta("c", "{}"))


@found_by("test_the_agents_events_keep_to_their_contract")
class AnswersACallThatIsNone(Contract):
    agent = breaking(ToolResult("d", "sun"))


@found_by("test_the_agents_events_keep_to_their_contract")
class WaitsForSomethingElse(Contract):
    agent = breaking(Paused((PendingCall("c", "delete", "{}", "answer"),)))


@found_by("test_the_agents_events_keep_to_their_contract")
class WaitsForOneIdTwice(Contract):
    agent = breaking(Paused((PENDING, PENDING)))


@found_by("test_the_agents_events_keep_to_their_contract")
class LeavesAStateThatIsNoJson(Contract):
    agent = breaking(Paused((PENDING,), {"seen": {1, 2}}))


@found_by("test_the_agents_events_keep_to_their_contract")
class ReportsNaN(Contract):
    agent = breaking("x", UsageReported(float("nan"), 1))


@found_by("test_the_agents_events_keep_to_their_contract")
class TextAsBytes(Contract):
    agent = breaking(TextDelta(b"x"))


@found_by("test_the_agents_events_keep_to_their_contract")
class ProgressThatIsNoJson(Contract):
    agent = breaking(Progress("step", "1", "on", data={"file": object()}), "x")


@found_by("test_the_agents_events_keep_to_their_contract")
class SpeaksAfterItsEnd(Contract):
    agent = breaking("x", Finished(), "y")


# the request that reaches the agent


class Losing(Server):
    """Removes a part of every request before it handles the request."""

    def __init__(self, lose: Callable[[Chunk], object]) -> None:
        super().__init__(reference)
        self._lose = lose

    async def handle(self, request: HttpRequest, send: Send) -> None:
        asked, request = await whole_body(request)
        if asked:
            self._lose(asked)
            request = with_body(request, json.dumps(asked).encode())
        await super().handle(request, send)


@found_by("test_parameters_reach_the_agent")
class LosesTheTemperature(Suite):
    agent = Losing(lambda asked: asked.pop("temperature", None))


async def _deaf(request: AgentRequest) -> AsyncIterator[Any]:
    yield "Hello, "
    yield "world"


@found_by("test_a_parameter_is_passed_on_or_told")
class DeclaresParametersAndLooksAtNone(Suite):
    agent = as_backend(_deaf, capabilities=Capabilities(client_tools=False, parameters=frozenset({"temperature"})))


@found_by("test_a_parameter_is_passed_on_or_told")
class DoesNotTellWhatIsIgnored(Suite):
    agent = Distorted(head=lambda headers, status: headers.pop("x-ignored-parameters", None) and None)


def _without_pictures(asked: Chunk) -> None:
    for message in asked.get("messages", ()):
        if isinstance(message, dict) and isinstance(message["content"], list):
            message["content"] = [part for part in message["content"] if part["type"] == "text"]


@found_by("test_a_picture_reaches_the_agent_or_is_refused")
class LosesPictures(Suite):
    agent = Losing(_without_pictures)


@found_by("test_response_format_reaches_the_agent_or_is_refused")
class LosesTheFormat(Suite):
    agent = Losing(lambda asked: asked.pop("response_format", None))


@found_by("test_a_client_cannot_take_the_place_of_an_own_tool")
class DoesNotDeclareItsTools(Suite):
    agent = staticmethod(undeclared)


# approvals


class Asking(Suite):
    approval_prompt = "Please pay."
    edited_arguments: ClassVar = {"to": "Bob"}
    edited_result = "paid to Bob"


class _PaysFirst(Approving):
    async def asks(self) -> AsyncIterator[Any]:
        yield ToolCallReady("call_first", "pay", "{}", "agent")
        yield ToolResult("call_first", "paid to Ann")
        async for item in super().asks():
            yield item


@found_by("test_the_agent_asks_before_it_acts")
class ActsBeforeItAsks(Asking):
    agent = _PaysFirst()


class _OnlySaysSo(Approving):
    async def decided(self, request: AgentRequest, call_id: str, decision: Decision) -> AsyncIterator[Any]:
        if decision.approved and decision.arguments is None:
            yield "Paid."
            return
        async for item in super().decided(request, call_id, decision):
            yield item


@found_by("test_an_approved_call_is_run_once")
class DoesNotActWhenApproved(Asking):
    agent = _OnlySaysSo()


class _DeafToNo(Approving):
    async def decided(self, request: AgentRequest, call_id: str, decision: Decision) -> AsyncIterator[Any]:
        deaf = request.messages[-1].text != OTHER_PROMPT
        async for item in super().decided(request, call_id, replace(decision, approved=decision.approved or deaf)):
            yield item


@found_by("test_a_denied_call_is_not_run")
class ActsAlthoughDenied(Asking):
    agent = _DeafToNo()


class _DeafToOthers(Approving):
    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[Any]:
        if request.prompt == OTHER_PROMPT:
            yield ToolCallReady("call_late", "pay", "{}", "agent")
            yield ToolResult("call_late", "paid to Ann")
        async for item in super().run(request, context):
            yield item


@found_by("test_another_message_takes_the_place_of_a_decision")
class ActsAlthoughSomethingElseWasSaid(Asking):
    agent = _DeafToOthers()


class _IgnoresEdits(Approving):
    async def decided(self, request: AgentRequest, call_id: str, decision: Decision) -> AsyncIterator[Any]:
        async for item in super().decided(request, call_id, replace(decision, arguments=None)):
            yield item


@found_by("test_edited_arguments_are_those_that_are_run")
class RunsWhatWasAskedAndNotWhatWasApproved(Asking):
    agent = _IgnoresEdits()


# conversations


def remembering_by(key: Callable[[AgentRequest], str | None], *, early: bool = False) -> Any:
    memory: dict[str, list[str]] = {}

    async def agent(request: AgentRequest) -> AsyncIterator[str]:
        whose = key(request)
        heard = memory.setdefault(whose, []) if whose is not None else []
        said = " / ".join(heard) or "you"
        if early:
            heard.append(request.prompt)
        yield "Hello, "
        yield said
        if not early:
            heard.append(request.prompt)

    return staticmethod(agent)


@found_by("test_a_failed_turn_leaves_nothing_behind")
class RemembersWhatFailed(Suite):
    tool_prompt = Conformance.tool_prompt
    agent = remembering_by(lambda request: request.session_key, early=True)


@found_by("test_callers_with_the_same_conversation_id_do_not_meet")
class RemembersByTheIdAlone(Suite):
    tool_prompt = Conformance.tool_prompt
    agent = remembering_by(lambda request: request.conversation_id)


@found_by("test_a_fork_does_not_see_what_was_said_beside_it")
class RemembersByTheCaller(Suite):
    tool_prompt = Conformance.tool_prompt
    agent = remembering_by(lambda request: None if request.principal.id == "anonymous" else request.principal.id)


# responses


def _response_event(change: Callable[[Chunk], object]) -> Callable[[bytes, Chunk], bytes]:
    def event(data: bytes, asked: Chunk) -> bytes:
        head, mark, body = data.partition(b"\ndata: ")
        if not mark:
            return data
        value = json.loads(body)
        change(value)
        return head + mark + json.dumps(value).encode() + b"\n\n"

    return event


@found_by("test_the_events_of_a_response_are_numbered_and_end_with_it")
class NumbersResponsesFromOne(Suite):
    agent = Distorted(event=_response_event(lambda value: value.update(sequence_number=value["sequence_number"] + 1)))


@found_by("test_a_response_says_what_chat_says")
class SaysLessInResponses(Suite):
    @staticmethod
    def _shorter(body: Chunk) -> Chunk:
        for item in body.get("output", ()):
            for part in item.get("content", ()):
                part["text"] = part["text"][:5]
        return body

    agent = Distorted(whole=_shorter)


# clients that leave


class Leaving(Suite):
    patience = 0.6
    settle = 0.05


@found_by("test_the_agent_stops_when_the_client_leaves_a_plain_request")
class RunsOnWhenPlain(Leaving):
    agent = RunningOn("plain")


@found_by("test_the_agent_stops_when_the_client_leaves_before_the_first_piece")
class RunsOnBeforeTheFirstPiece(Leaving):
    agent = RunningOn("before")


@found_by("test_the_agent_stops_when_the_client_leaves_between_two_pieces")
class RunsOnBetweenPieces(Leaving):
    agent = RunningOn("between")


@found_by("test_the_agent_stops_when_the_client_leaves_while_a_piece_is_written")
class RunsOnWhileWriting(Leaving):
    agent = RunningOn("writing")


@found_by(*LEAVING)
class SwallowsCancellation(Leaving):
    long_prompt = "A long one, please."

    async def agent(prompt: str) -> AsyncIterator[str]:
        yield "Hello, "
        until = time.monotonic() + (RUNS_ON if "long" in prompt else 0)
        while (left := until - time.monotonic()) > 0:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(left)
        yield "world"


@found_by(*LEAVING)
class WorksInATaskOfItsOwn(Leaving):
    long_prompt = "A long one, please."

    async def agent(prompt: str) -> AsyncIterator[str]:
        yield "Hello, "
        work = asyncio.create_task(asyncio.sleep(RUNS_ON if "long" in prompt else 0), name="work")
        tasks.append(work)
        await asyncio.shield(work)
        yield "world"


@found_by(*LEAVING)
class BlockingThreadThatCannotBeStopped(Leaving):
    long_prompt = "A long one, please."

    def agent(prompt: str) -> Iterator[str]:
        yield "Hello, "
        time.sleep(RUNS_ON if "long" in prompt else 0)
        yield "world"


async def unaware(scope: Any, receive: Any, send: Any) -> None:
    async def late() -> Any:
        message = await receive()
        if message["type"] == "http.disconnect":
            await asyncio.sleep(RUNS_ON)
        return message

    await handwritten(scope, late, send)


@found_by(*LEAVING)
class ApplicationThatDoesNotWatchItsClient(Leaving):
    agent = unaware
    tool_prompt = Conformance.tool_prompt
    long_prompt = "A long one, please."
    failing_prompt = "Please fail."
