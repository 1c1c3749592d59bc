"""Responses for Ollama's clients conform to the types of Ollama's package."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import ollama
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ollama import _types as types

from openai_compat.agent_request import AgentRequest, FunctionTool, ToolChoice
from openai_compat.errors import AgentError, RateLimited
from openai_compat.events import (
    Finished,
    MediaDelta,
    Paused,
    PendingCall,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    ToolResult,
    UsageReported,
)
from openai_compat.testing.strategies import event_lists
from openai_compat.turns.event_contract import EventContract
from openai_compat.wire.ollama.errors import OllamaErrors
from openai_compat.wire.ollama.serialize import Durations, LineForm, LineWriter
from openai_compat.wire.presentation import approval_question
from openai_compat.wire.reducer import Item, Usage
from tests.requirements import requirement

CALLED: list[Item] = [
    ToolCallStarted("c", "find", "client"),
    ToolCallStarted("d", "find", "client"),
    ToolCallDelta("d", "{}"),
    ToolCallDelta("c", '{"q": "x"}'),
    ToolCallReady("d", "find", "{}", "client"),
    ToolCallReady("c", "find", '{"q": "x"}', "client"),
]
OWN: list[Item] = [
    ToolCallStarted("o", "look", "agent"),
    ToolCallReady("o", "look", "{}", "agent"),
    ToolResult("o", "found"),
]
ENDING = ("model", "created_at", "done", "done_reason", "prompt_eval_count", "eval_count", "total_duration")
FORMS: Any = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["agent", 'a"":b', "ä/b"]),
        "chat": st.booleans(),
        "thinking": st.booleans(),
        "own_tools": st.sampled_from(["thinking", "text", "hidden"]),
    }
)


def new_writer(*, streams: bool, model: str = "agent", **form: Any) -> LineWriter:
    return LineWriter(
        LineForm(model=model, created_at="2026-01-01T00:00:00Z", streams=streams, **form),
        lambda paused: [approval_question(call) for call in paused.pending if call.waits_for == "approval"],
    )


def answer_lines(
    items: list[Item], usage: Usage | None = None, *, streams: bool = False, **form: Any
) -> list[dict[str, Any]]:
    """Return the lines of a response."""
    made = new_writer(streams=streams, **form)
    return parse_lines(made.feed(items) + made.end(usage or Usage(), Durations(9, 4)))


def parse_lines(data: bytes) -> list[dict[str, Any]]:
    assert data.endswith(b"\n") or not data
    return [json.loads(line) for line in data.splitlines()]


def fold_lines(found: list[dict[str, Any]], *, chat: bool) -> dict[str, Any]:
    """Fold the lines into an answer, as a third-party client would."""
    parts = [line["message"] if chat else line for line in found]
    said = {"text": "".join([part["content" if chat else "response"] for part in parts])}
    said["thinking"] = "".join([part.get("thinking", "") for part in parts])
    calls = [call for part in parts for call in part.get("tool_calls", ())]
    logprobs = [token for line in found for token in line.get("logprobs", ())]
    last = {name: value for name, value in found[-1].items() if name in ENDING}
    return {**said, **last, "calls": calls, "logprobs": logprobs}


@requirement("ollama.lines")
@settings(max_examples=40)
@given(event_lists(["find"]), FORMS, st.lists(st.integers(0, 30), max_size=3))
def test_the_plain_answer_is_the_fold_of_the_lines_and_both_have_ollamas_types(
    said: list[Any], form: dict[str, Any], cuts: list[int]
) -> None:
    request = AgentRequest(
        model="agent",
        messages=(),
        raw_messages=[],
        tools=(FunctionTool("find"),),
        tool_choice=ToolChoice(frozenset(["find"])),
    )
    contract, usage = EventContract(request, counts_tokens=True), Usage()
    items = [event for item in said for event in contract.feed(item)] + contract.end()
    for item in items:
        if isinstance(item, UsageReported):
            usage.add(item)
    made = new_writer(streams=True, **form)
    places = sorted({0, *[cut for cut in cuts if cut < len(items)], len(items)})
    data = b"".join([made.feed(items[a:b]) for a, b in pairwise(places)])
    found = parse_lines(data + made.end(usage, Durations(9, 4)))
    model: Any = ollama.ChatResponse if form["chat"] else ollama.GenerateResponse
    for line in found:
        model.model_validate(line, strict=True)
    assert [line["done"] for line in found] == [*[False] * (len(found) - 1), True]
    assert {(line["model"], line["created_at"]) for line in found} == {(form["model"], "2026-01-01T00:00:00Z")}
    (plain,) = answer_lines(items, usage, **form)
    model.model_validate(plain, strict=True)
    assert fold_lines(found, chat=form["chat"]) == fold_lines([plain], chat=form["chat"])


@requirement("ollama.lines")
@pytest.mark.parametrize("chat", [True, False])
def test_what_fills_a_silence_is_a_line_that_adds_nothing(chat: bool) -> None:
    form = LineForm(model="agent", created_at="2026-01-01T00:00:00Z", streams=True, chat=chat)
    (line,) = parse_lines(form.keep_alive)
    assert fold_lines([line], chat=chat)["text"] == ""
    assert line["done"] is False


@requirement("ollama.once")
def test_calls_are_whole_and_come_at_the_end_in_the_order_in_which_they_began() -> None:
    made = new_writer(streams=True)
    assert "tool_calls" not in json.dumps(parse_lines(made.feed(["Let me look.", *CALLED])))
    called, last = parse_lines(made.feed([Finished()]) + made.end(Usage(), Durations()))
    assert called["message"]["tool_calls"] == [
        {"id": "c", "function": {"index": 0, "name": "find", "arguments": {"q": "x"}}},
        {"id": "d", "function": {"index": 1, "name": "find", "arguments": {}}},
    ]
    assert (last["done"], last["done_reason"]) == (True, "stop")


@requirement("ollama.lines")
def test_own_tools_are_thoughts_or_lines_of_text_or_nothing_and_never_calls() -> None:
    items: list[Item] = ["Look: ", *OWN, "Found.", Finished()]
    (thought,) = answer_lines(items)
    assert thought["message"] == {
        "role": "assistant",
        "content": "Look: Found.",
        "thinking": "Running look …\nlook done\n",
    }
    assert answer_lines(items, thinking=False) == answer_lines(items, own_tools="hidden")
    assert (
        answer_lines(items, own_tools="text")[0]["message"]["content"]
        == "Look: [⚙ Running look …]\n[⚙ look done]\nFound."
    )


@requirement("ollama.lines")
def test_the_end_tells_tokens_and_times_and_why() -> None:
    usage = Usage()
    usage.add(UsageReported(100, 20))
    (counted,) = answer_lines(["Hi", Finished("length")], usage)
    assert (counted["prompt_eval_count"], counted["eval_count"], counted["done_reason"]) == (100, 20, "length")
    assert [counted[f"{name}_duration"] for name in ("total", "load", "prompt_eval", "eval")] == [9, 0, 4, 5]
    (guessed,) = answer_lines(["x" * 40, Finished()], estimate=lambda: 12)
    assert (guessed["prompt_eval_count"], guessed["eval_count"]) == (12, 10)


def test_what_has_no_place_is_said_in_words() -> None:
    asked = Paused((PendingCall("a", "rm", "{}", "approval"),))
    (question,) = answer_lines(["I clean up.", asked])
    assert question["message"]["content"].endswith("May I run rm with {}? Answer yes, no or always.")
    (refused,) = answer_lines([RefusalDelta("I will not."), Finished("content_filter")])
    assert (refused["message"]["content"], refused["done_reason"]) == ("I will not.", "stop")
    (file,) = answer_lines([MediaDelta(b"x", "image/png"), MediaDelta(b"x", "audio/wav", "Spoken."), Finished()])
    assert "image/png" in file["message"]["content"]
    assert file["message"]["content"].endswith("Spoken.")


def test_probabilities_of_tokens_are_told_as_ollama_tells_them() -> None:
    token = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}
    item = TextDelta("Hi", [{**token, "top_logprobs": [{**token, "logprob": -0.7}]}])
    (plain,) = answer_lines([ReasoningDelta("Hm"), item, Finished()])
    assert plain["logprobs"] == [{"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Hi", "logprob": -0.7}]}]
    assert answer_lines([item, Finished()], streams=True)[0]["logprobs"] == plain["logprobs"]


@requirement("ollama.lines")
@pytest.mark.parametrize("error", [AgentError("It broke.", code="broken"), RateLimited("It broke.")])
def test_an_error_is_a_text_in_an_answer_and_in_a_line(error: Any) -> None:
    form = OllamaErrors()
    assert json.loads(form.body(error, "req_1"))["error"] == "It broke."
    (line,) = parse_lines(form.frame(error, "req_1"))
    # The text is repeated for Open WebUI, which ignores an error at the end of a stream.
    assert line.pop("message") == {"role": "assistant", "content": "\n\nIt broke."}
    assert line == json.loads(form.body(error, "req_1"))


@requirement("ollama.types")
def test_the_package_has_gained_no_field_or_route_that_was_not_looked_at() -> None:
    base = (
        "created_at done done_reason eval_count eval_duration load_duration model prompt_eval_count "
        "prompt_eval_duration total_duration"
    )
    fields = {
        types.ChatResponse: f"{base} logprobs message",
        types.GenerateResponse: f"{base} completed context image logprobs response thinking total",
        types.EmbedResponse: f"{base} embeddings",
        types.EmbeddingsResponse: "embedding",
        types.Message: "content images role thinking tool_calls tool_name",
        types.Message.ToolCall: "function",
        types.Message.ToolCall.Function: "arguments name",
        types.Logprob: "logprob token top_logprobs",
        types.ChatRequest: "format keep_alive logprobs messages model options stream think tools top_logprobs",
        types.GenerateRequest: "context format height images keep_alive logprobs model options prompt raw steps stream "
        "suffix system template think top_logprobs width",
        types.EmbedRequest: "dimensions input keep_alive model options truncate",
        types.EmbeddingsRequest: "keep_alive model options prompt",
        types.Options: "embedding_only f16_kv frequency_penalty logits_all low_vram main_gpu mirostat mirostat_eta "
        "mirostat_tau num_batch num_ctx num_gpu num_keep num_predict num_thread numa penalize_newline "
        "presence_penalty repeat_last_n repeat_penalty seed stop temperature tfs_z top_k top_p typical_p use_mlock "
        "use_mmap vocab_only",
        types.Tool: "function type",
        types.Tool.Function: "description name parameters",
        types.ListResponse.Model: "details digest model modified_at size",
        types.ModelDetails: "families family format parameter_size parent_model quantization_level",
        types.ShowResponse: "capabilities details license modelfile modelinfo modified_at parameters template",
        types.ProcessResponse.Model: "context_length details digest expires_at model name size size_vram",
    }
    for model, known in fields.items():
        assert sorted(model.model_fields) == sorted(known.split()), model.__name__
    methods = {name for name in vars(ollama.Client) if not name.startswith("_")}
    assert methods == {
        *("chat", "generate", "embed", "embeddings", "list", "show", "ps"),
        *("pull", "push", "create", "copy", "delete", "create_blob"),  # for models: status 501
        *("systemone", "web_search", "web_fetch", "close"),  # for ollama.com, or client-side only
    }
