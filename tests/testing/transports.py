"""Agents and servers for the conformance suites of further APIs: good ones, and some with a defect."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from openai_compat import Server
from openai_compat.api.anthropic_messages import AnthropicMessages
from openai_compat.api.ollama import Ollama
from openai_compat.http import HttpRequest, Send
from openai_compat.testing import MessagesConformance, OllamaConformance
from tests.testing.agents import plain_greeter, reference
from tests.testing.distortion import Distorted, whole_body, with_body

APIS = (AnthropicMessages(), Ollama())


class GoodMessages(MessagesConformance):
    agent = reference
    tool_prompt = "What is the weather?"


class GoodOllama(OllamaConformance):
    agent = reference
    tool_prompt = "What is the weather?"


class PlainMessages(MessagesConformance):
    agent = staticmethod(plain_greeter)


class PlainOllama(OllamaConformance):
    agent = staticmethod(plain_greeter)


def distorted(change: Callable[[bytes], bytes]) -> Distorted:
    return Distorted(event=lambda data, asked: change(data), apis=APIS)


def lines(change: Callable[[dict[str, Any]], Any]) -> Distorted:
    def changed(data: bytes) -> bytes:
        if not data.startswith(b"{"):  # chat's
            return data
        told = [json.loads(line) for line in data.splitlines() if line]
        return b"".join([json.dumps(change(line) or line).encode() + b"\n" for line in told])

    return distorted(changed)


class BadMessages(MessagesConformance):
    patience = 1.0
    tool_prompt = "What is the weather?"


class BadOllama(OllamaConformance):
    patience = 1.0
    tool_prompt = "What is the weather?"


class BlocksWithGaps(BadMessages):
    agent = distorted(lambda data: data.replace(b'"index":0', b'"index":1'))


class ThoughtsInTexts(BadMessages):
    agent = distorted(lambda data: data.replace(b'"text_delta"', b'"thinking_delta"'))


class BeginsWithoutUsage(BadMessages):
    agent = distorted(lambda data: data.replace(b'"usage":{', b'"used":{') if b"message_start" in data else data)


class OwnToolsToBeRun(BadMessages):
    agent = distorted(lambda data: data.replace(b'"mcp_tool_use"', b'"tool_use"'))


class EndsForItsLength(BadMessages):
    agent = distorted(lambda data: data.replace(b'"end_turn"', b'"max_tokens"'))


class EndsAsRefused(BadMessages):
    agent = distorted(lambda data: data.replace(b'"end_turn"', b'"refusal"'))


class CutsLongAnswers(BadMessages):
    agent = distorted(
        lambda data: data.replace(b'"end_turn"', b'"max_tokens"') if b'"output_tokens":40000' in data else data
    )


class ErrorsThatAreRepeated(BadMessages):
    agent = distorted(lambda data: data.replace(b'"agent_error"', b'"api_error"'))


class CallsWithoutDeltas(BadMessages):
    agent = distorted(lambda data: data.replace(b'"partial_json":"{', b'"partial_json":"['))


class SaysLessInMessages(BadMessages):
    agent = distorted(lambda data: data.replace(b'"text_delta","text":"', b'"text_delta","text":"not '))


class SaysNothingForTheAgent(BadMessages):
    agent = distorted(lambda data: data.replace(b"(The agent said nothing.)", b""))


class PassingOverThreads(Server):
    async def handle(self, request: HttpRequest, send: Send) -> None:
        asked, request = await whole_body(request)
        asked.pop("thread", None)
        await super().handle(with_body(request, json.dumps(asked).encode()) if asked else request, send)


class ForgetsThreads(BadMessages):
    agent = PassingOverThreads(reference, apis=APIS)


def without_details(body: dict[str, Any]) -> dict[str, Any]:
    body["error"].pop("details", None)
    return body


class GoneInWordsAlone(BadMessages):
    agent = Distorted(error=without_details, apis=APIS)


class CountsNothing(BadMessages):
    agent = Distorted(whole=lambda body: {"input_tokens": 1} if "input_tokens" in body else body, apis=APIS)


class DoneTooEarly(BadOllama):
    agent = lines(lambda line: line.update(done=True) if "message" in line else None)


class ArgumentsAsText(BadOllama):
    agent = lines(
        lambda line: (
            [c["function"].update(arguments="{}") for c in line.get("message", {}).get("tool_calls", ())] and line
        )
    )


class ErrorsLookLikeAnEnd(BadOllama):
    agent = lines(lambda line: {"message": {"content": ""}, "done": True} if "error" in line else None)


DEFECTS: dict[str, set[str]] = {
    "BlocksWithGaps": {"test_a_stream_is_in_order"},
    "OwnToolsToBeRun": {"test_the_agents_own_tools_are_no_calls"},
    "ThoughtsInTexts": {"test_a_stream_is_in_order"},
    "BeginsWithoutUsage": {"test_a_stream_is_in_order"},
    "EndsForItsLength": {"test_a_whole_answer_ends_with_its_turn"},
    "EndsAsRefused": {"test_a_whole_answer_ends_with_its_turn"},
    "CutsLongAnswers": {"test_a_whole_answer_ends_with_its_turn"},
    "ErrorsThatAreRepeated": {"test_a_failed_answer_is_safe"},
    "CallsWithoutDeltas": {"test_a_call_of_the_clients_is_whole"},
    "SaysLessInMessages": {"test_it_says_what_chat_says"},
    "SaysNothingForTheAgent": {"test_an_answer_without_a_word_is_one"},
    "ForgetsThreads": {"test_a_thread_goes_on_or_is_gone"},
    "GoneInWordsAlone": {"test_a_thread_goes_on_or_is_gone"},
    "CountsNothing": {"test_tokens_are_counted_beside_the_agent"},
    "DoneTooEarly": {
        "test_a_stream_is_in_order",
        "test_an_answer_without_a_word_is_one",
        "test_a_failed_answer_is_safe",
    },
    "ArgumentsAsText": {"test_a_call_of_the_clients_is_whole"},
    "ErrorsLookLikeAnEnd": {"test_a_failed_answer_is_safe"},
}
