"""LangGraph's graphs for the acceptance cases: LangChain's agents with a fake chat model."""

from __future__ import annotations

import base64
import importlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

from openai_compat.backends.langgraph import per_request
from tests.frameworks import model as double
from tests.frameworks.model import CACHED, INPUT, OUTPUT, REASONING, Answer, Call, Model, Say, Seen, Shown, Think

lc: Any = importlib.import_module("langchain_core.messages")
outputs: Any = importlib.import_module("langchain_core.outputs")
models: Any = importlib.import_module("langchain_core.language_models")
create_agent: Any = importlib.import_module("langchain.agents").create_agent
middleware: Any = importlib.import_module("langchain.agents.middleware")
openai: Any = importlib.import_module("openai")
httpx2: Any = importlib.import_module("httpx2")
InMemorySaver: Any = importlib.import_module("langgraph.checkpoint.memory").InMemorySaver

NAME = "LangGraph, LangChain"
IMPOSSIBLE: dict[str, str] = {}


class Fake(models.BaseChatModel):
    double: Any

    @property
    def _llm_type(self) -> str:
        return "double"

    def bind_tools(self, tools: Any, **settings: Any) -> Any:
        return self.bind(offered=[getattr(tool, "name", "") or tool["function"]["name"] for tool in tools], **settings)

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **settings: Any) -> Any:
        calls = 0
        try:
            async for step in self.double.answer(_seen(messages, settings)):
                match step:
                    case Say(text):
                        yield _chunk(text)
                    case Think(text):
                        yield _chunk([{"type": "reasoning", "reasoning": text}])
                    case Call(id=call_id, name=name):
                        first, second = step.pieces
                        yield _chunk("", [{"name": name, "args": first, "id": call_id, "index": calls}])
                        yield _chunk("", [{"name": None, "args": second, "id": None, "index": calls}])
                        calls += 1
                    case Answer(value):
                        yield _chunk(json.dumps(value))
        except double.RateLimited as error:
            asked = httpx2.Request("POST", "http://double")
            refused = httpx2.Response(429, headers={"retry-after": "7"}, request=asked)
            raise openai.RateLimitError(double.SECRET, response=refused, body=None) from error
        usage = {
            "input_tokens": INPUT,
            "output_tokens": OUTPUT,
            "total_tokens": INPUT + OUTPUT,
            "input_token_details": {"cache_read": CACHED},
            "output_token_details": {"reasoning": REASONING},
        }
        yield _chunk("", usage_metadata=usage)


def _chunk(content: Any, calls: Any = (), **more: Any) -> Any:
    message = lc.AIMessageChunk(content=content, tool_call_chunks=list(calls), **more)
    return outputs.ChatGenerationChunk(message=message)


def _seen(messages: list[Any], settings: dict[str, Any]) -> Seen:
    roles = {"human": "user", "ai": "assistant"}
    shown = []
    for message in messages:
        calls = tuple([call["id"] for call in getattr(message, "tool_calls", ())])
        blocks = [block for block in message.content_blocks if block["type"] == "image"]
        media = tuple([base64.b64decode(block["base64"]) for block in blocks])
        call_id = getattr(message, "tool_call_id", "")
        shown.append(Shown(roles.get(message.type, message.type), message.text, calls, call_id, media))
    wanted = settings.get("response_format")
    schema = wanted["json_schema"]["schema"] if wanted else None
    return Seen(shown, settings.get("offered", []), settings, schema)


class FileSaver(InMemorySaver):
    """A checkpointer whose data outlives the process, like a database."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        if path.exists():
            storage, writes, blobs = pickle.loads(path.read_bytes())
            for thread, spaces in storage.items():
                self.storage[thread].update(spaces)
            self.writes.update(writes)
            self.blobs.update(blobs)

    def put(self, *args: Any) -> Any:
        return self._kept(super().put(*args))

    def put_writes(self, *args: Any) -> Any:
        return self._kept(super().put_writes(*args))

    def _kept(self, result: Any) -> Any:
        storage = {thread: {ns: dict(all_) for ns, all_ in spaces.items()} for thread, spaces in self.storage.items()}
        writes = {key: dict(value) for key, value in self.writes.items()}
        self.path.write_bytes(pickle.dumps((storage, writes, dict(self.blobs))))
        return result


def agents(model: Model) -> dict[str, Any]:
    fake = Fake(double=model)
    file = os.environ.get("OPENAI_COMPAT_MEMORY")
    saver = FileSaver(Path(file)) if file else InMemorySaver()

    def made(*tools: Any, **more: Any) -> Any:
        return create_agent(
            fake, list(tools), middleware=[per_request(), *more.pop("also", [])], checkpointer=saver, **more
        )

    expert = create_agent(fake, [])

    async def ask_expert(question: str) -> str:
        """Ask the expert."""
        said = await expert.ainvoke({"messages": [("user", question)]})
        return str(said["messages"][-1].text)

    asks = middleware.HumanInTheLoopMiddleware(interrupt_on={"get_weather": True})
    return {
        "plain": made(),
        "instructed": made(system_prompt="Be kind."),
        "weather": made(model.get_weather, model.wait),
        "careful": made(model.get_weather, model.tell_time, also=[asks]),
        "expert": made(ask_expert),
    }
