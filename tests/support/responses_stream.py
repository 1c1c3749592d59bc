"""Streams of the Responses API built from agent events, and their reading by clients."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, TypeAlias

import httpx2
from hypothesis import strategies as st
from openai import OpenAI

from openai_compat.agent_request import Sampling, ToolChoice
from openai_compat.errors import AgentError
from openai_compat.events import AgentEvent, Compacted, MediaDelta, Paused, PendingCall, TextDelta
from openai_compat.testing.strategies import event_lists
from openai_compat.turns.event_contract import EventContract
from openai_compat.wire.reducer import Item
from openai_compat.wire.responses.serialize.stream import ResponseForm, ResponseStream
from tests.support import strategies
from tests.support.exchanges import strict_json

Json: TypeAlias = dict[str, Any]
Ending: TypeAlias = Literal["finish", "fail", "cancel"]

CREATED = 1_700_000_000
ALL = ToolChoice(frozenset(["get_weather", "find", "write_code"]))
FAILURE = AgentError("The calendar is closed today.", code="calendar_closed")


def form(**fields: Any) -> ResponseForm:
    """A ResponseForm whose ids are numbered."""
    numbers = count()
    echo = {"model": "agent", "tools": [{"type": "custom", "name": "write_code"}], "temperature": None}
    given: Json = {
        "id": "resp_1",
        "created": CREATED,
        "agent": "agent",
        "echo": echo,
        "new_id": lambda prefix: f"{prefix}{next(numbers)}",
        "now": lambda: CREATED + 5,
        "custom_tools": frozenset(["write_code"]),
    }
    return ResponseForm(**(given | fields))


def frames(data: bytes) -> list[Json]:
    """Events in `data`: each named by its type, strict JSON on one line, ended by an empty line."""
    assert data == b"" or data.endswith(b"\n\n")
    events: list[Json] = []
    for frame in data.decode().split("\n\n")[:-1]:
        name, body = frame.split("\n")
        event = strict_json(body.removeprefix("data: "))
        assert (name, body[:6]) == (f"event: {event['type']}", "data: ")
        events.append(event)
    return events


def told(*items: Item, ending: Ending = "finish", **fields: Any) -> tuple[list[Json], ResponseStream]:
    """Events of a whole stream, and the stream that wrote them."""
    stream = ResponseStream(form(**fields))
    data = stream.begin() + stream.feed(list(items)) + ended(stream, ending)
    return frames(data), stream


def ended(stream: ResponseStream, ending: Ending) -> bytes:
    match ending:
        case "finish":
            return stream.finish()
        case "fail":
            return stream.fail(FAILURE)
        case "cancel":
            return stream.cancel()


def of(events: list[Json], *kinds: str) -> list[Json]:
    """Events of these types; the types are given without "response."."""
    return [event for event in events if event["type"].removeprefix("response.") in kinds]


def names(events: list[Json]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


# random agent events


approvals = st.builds(
    lambda name, arguments: Paused((PendingCall("a", name, arguments, "approval"),), {"step": 1}),
    strategies.tool_names,
    strategies.texts,
)
items: st.SearchStrategy[AgentEvent | str] = st.one_of(
    strategies.items,
    strategies.items,
    st.builds(TextDelta, strategies.texts, st.none(), st.sampled_from(["commentary", "final_answer"])),
    st.builds(Compacted, strategies.texts),
    st.builds(MediaDelta, st.binary(max_size=5), st.sampled_from(["image/svg+xml", "application/pdf"])),
    approvals,
)


def turn(said: list[AgentEvent | str]) -> list[Item]:
    """Items that a turn passes on: in contract order, one terminal event, violations dropped."""
    asked = strategies.asked(ALL, Sampling(top_logprobs=1))
    enforcer = EventContract(asked, counts_tokens=True)
    out: list[Item] = []
    for item in said:
        try:
            fed = enforcer.feed(item)
        except AgentError:
            continue
        out += [item] if isinstance(item, str) and fed else fed
    return [*out, *enforcer.end()]


turns = st.one_of(st.lists(items, max_size=15), event_lists(("get_weather", "find", "write_code"))).map(turn)
endings: st.SearchStrategy[Ending] = st.sampled_from(["finish", "finish", "fail", "cancel"])
forms = st.fixed_dictionaries(
    {
        "visibility": st.sampled_from(["items", "items", "hidden", "reasoning", "text", "status"]),
        "approval_labels": st.sampled_from([frozenset[str](), frozenset(["agent"])]),
        "include_logprobs": st.booleans(),
        "background": st.booleans(),
    }
)


@dataclass(frozen=True)
class Told:
    """A stream, and the plain answer to the same request."""

    written: list[bytes]
    stream: ResponseStream
    plain: ResponseStream

    @property
    def events(self) -> list[Json]:
        return frames(b"".join(self.written))


@st.composite
def streams(draw: st.DrawFn) -> Told:
    """Any turn, in any batches, ended anywhere, written in any form."""
    said, fields, ending, queued = draw(turns), draw(forms), draw(endings), draw(st.booleans())
    if ending != "finish":
        said = said[: draw(st.integers(0, len(said)))]
    stream, plain = ResponseStream(form(**fields)), ResponseStream(form(**fields))
    written = [stream.begin(queued=queued)] if draw(st.booleans()) else []
    written += [stream.feed(batch) for batch in strategies.split(said, draw(strategies.cuts))]
    written.append(ended(stream, ending))
    plain.write_no_events()
    assert plain.feed(said) + ended(plain, ending) == b""
    return Told(written, stream, plain)


# what a client reads


def accumulated(events: list[Json]) -> list[Json]:
    """Output items, assembled from the deltas alone."""
    output: list[Json] = []
    for event in events:
        match event["type"].removeprefix("response."):
            case "output_item.added":
                output.append(copy.deepcopy(event["item"]))
            case "output_item.done":
                _finish(output[event["output_index"]], event["item"])
            case kind if "output_index" in event:
                _add(output[event["output_index"]], kind, event)
            case _:
                pass
    return output


def _add(item: Json, kind: str, event: Json) -> None:
    match kind:
        case "content_part.added":
            item["content"].append(copy.deepcopy(event["part"]))
        case "reasoning_summary_part.added":
            item["summary"].append(copy.deepcopy(event["part"]))
        case "output_text.delta":
            item["content"][event["content_index"]]["text"] += event["delta"]
            item["content"][event["content_index"]]["logprobs"] += event["logprobs"]
        case "output_text.annotation.added":
            annotations = item["content"][event["content_index"]]["annotations"]
            assert event["annotation_index"] == len(annotations)
            annotations.append(event["annotation"])
        case "refusal.delta":
            item["content"][event["content_index"]]["refusal"] += event["delta"]
        case "reasoning_summary_text.delta":
            item["summary"][event["summary_index"]]["text"] += event["delta"]
        case "function_call_arguments.delta" | "mcp_call_arguments.delta":
            item["arguments"] += event["delta"]
        case "custom_tool_call_input.delta":
            item["input"] += event["delta"]
        case _:
            _compare(item, kind, event)


def _compare(item: Json, kind: str, event: Json) -> None:
    """Check that a "done" event equals the sum of its deltas."""
    match kind:
        case "content_part.done":
            assert event["part"] == item["content"][event["content_index"]]
        case "reasoning_summary_part.done":
            assert event["part"] == item["summary"][event["summary_index"]]
        case "output_text.done":
            part = item["content"][event["content_index"]]
            assert (event["text"], event["logprobs"]) == (part["text"], part["logprobs"])
        case "refusal.done":
            assert event["refusal"] == item["content"][event["content_index"]]["refusal"]
        case "reasoning_summary_text.done":
            assert event["text"] == item["summary"][event["summary_index"]]["text"]
        case "function_call_arguments.done":
            assert (event["name"], event["arguments"]) == (item["name"], item["arguments"])
        case "mcp_call_arguments.done":
            assert event["arguments"] == item["arguments"]
        case "custom_tool_call_input.done":
            assert event["input"] == item["input"]
        case _:
            assert kind.split(".")[0] in ("mcp_call", "image_generation_call", "compaction"), kind


def _finish(item: Json, done: Json) -> None:
    """`done` adds only fields that no events carry: a tool's answer, a picture, the status."""
    new = {"status", "output", "error", "result", "output_format"}
    assert {key: value for key, value in done.items() if key not in new} == {
        key: value for key, value in item.items() if key not in new
    }
    item |= done


class Sdk:
    """OpenAI's own client, reading bytes that exist already."""

    def __init__(self) -> None:
        self._data = b""
        transport = httpx2.MockTransport(self._answer)
        self.client = OpenAI(
            api_key="sk-x", base_url="http://test/v1", http_client=httpx2.Client(transport=transport), max_retries=0
        )

    def _answer(self, _: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self._data)

    def stream(self, data: bytes) -> Any:
        """`client.responses.stream()`, which assembles the response."""
        self._data = data + b"data: [DONE]\n\n"
        return self.client.responses.stream(model="agent", input="hi")
