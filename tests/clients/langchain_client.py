"""LangChain as a client: `python langchain_client.py BASE_URL` prints the results of its cases as JSON.

With the extra argument `killed` it tests a server that is killed in mid-stream: it prints "begun" when the server may be
killed, and continues when it reads a line.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx2
import openai
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@tool("weather")
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def model(name: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=name, base_url=sys.argv[1], api_key="none", use_responses_api=True, max_retries=0, timeout=20, **options
    )  # fmt: skip


def tools(**options: Any) -> Any:
    """A call of the client's tool, and the answer to its result, with the whole history sent."""
    llm = model("weather", **options).bind_tools([weather])
    messages: list[Any] = [HumanMessage("And now?")]
    asked = llm.invoke(messages)
    messages += [asked, *[weather.invoke(call) for call in asked.tool_calls]]
    told = llm.invoke(messages)
    return {"calls": [(call["name"], call["args"]) for call in asked.tool_calls], "text": told.text}


def tools_streamed(**options: Any) -> Any:
    """The same, streamed; the chunks are added up as LangChain does."""
    llm = model("weather", **options).bind_tools([weather])
    messages: list[Any] = [HumanMessage("And now?")]
    asked = added(llm.stream(messages))
    messages += [asked, *[weather.invoke(call) for call in asked.tool_calls]]
    chunks = list(llm.stream(messages))
    texts = [chunk.text for chunk in chunks if chunk.text]
    return {
        "calls": [(call["name"], call["args"]) for call in asked.tool_calls],
        "pieces": len(texts),
        "text": added(chunks).text,
    }


def added(chunks: Any) -> AIMessageChunk:
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessageChunk)
    return whole


def server_keeps_the_history() -> Any:
    """With `use_previous_response_id` only the new messages are sent."""
    llm = model("echo", use_previous_response_id=True)
    messages: list[Any] = [HumanMessage("one")]
    messages += [llm.invoke(messages), HumanMessage("two")]
    last = llm.invoke(messages)
    forked = model("echo").invoke("other", previous_response_id=messages[1].response_metadata["id"])
    return {"text": last.text, "forked": forked.text, "usage": last.usage_metadata["total_tokens"]}


def own_tools() -> Any:
    """The agent's own tool calls are not calls for LangChain to run."""
    found = model("searcher").bind_tools([weather]).invoke("Where is it?")
    streamed = added(model("searcher").bind_tools([weather]).stream("Where is it?"))
    return {
        "calls": [*found.tool_calls, *streamed.tool_calls],
        "texts": [found.text, streamed.text],
        "kinds": [block["type"] for block in found.content],
    }


def structured() -> Any:
    return model("person").with_structured_output(Person).invoke("Who?").model_dump()


def fails() -> Any:
    said = ""
    try:
        for chunk in model("breaks").stream("Now"):
            said += chunk.text
    except openai.APIError as error:
        return {"said": said, "error": error.message}
    return "no error"


def killed() -> Any:
    """The chain continues from the last complete response."""
    first = model("echo").invoke("one")
    chain = {"previous_response_id": first.response_metadata["id"]}
    broke = False
    try:
        for chunk in model("waiting").stream("nobody", **chain):
            if chunk.text:
                print("begun", flush=True)
    except (openai.APIConnectionError, httpx2.TransportError):
        broke = True
    sys.stdin.readline()
    return {"broke": broke, "text": model("echo").invoke("two", **chain).text}


def main() -> None:
    if "killed" in sys.argv:
        print(json.dumps(killed()))
        return
    cases = {
        "tools": tools,
        "tools with previous_response_id": lambda: tools(use_previous_response_id=True),
        "tools, streamed": tools_streamed,
        "tools, streamed with previous_response_id": lambda: tools_streamed(use_previous_response_id=True),
        "history": server_keeps_the_history,
        "own tools": own_tools,
        "structured": structured,
        "fails": fails,
    }
    print(json.dumps({name: case() for name, case in cases.items()}))


if __name__ == "__main__":
    main()
