"""The API of a scripted model, for tests of agents and of programs that call models.

```python
model = ScriptedModel(
    [ToolCallReady("call_1", "weather", '{"city": "Paris"}'), UsageReported(50, 6)],
    ["It is ", "sunny."],
    [AgentError(status=429, retry_after=7)],
)
```

It speaks OpenAI's Chat Completions and Responses and Anthropic's Messages, streamed and plain. It is a `Server`, so it is
reached like any other server: without a socket by the transports of `openai_compat_adapters.transport`, and at a URL by
`openai_compat_adapters.testing.listening`.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import anyio
from pydantic_core import from_json

from ..agent_request import AgentRequest
from ..backend import Capabilities, RunContext
from ..events import AgentEvent, UsageReported
from ..http import HasRoom, HttpRequest, ResponseBody, ResponseStart, Send
from ..server import Server
from .messages_api import MESSAGES
from .scripted import ScriptedBackend, Step

__all__ = ("HANG", "ModelRequest", "ScriptedModel")

USAGE = UsageReported(10, 5)
"""The usage of an answer whose script reports none."""


class Hang:
    """A step of a script that never ends; see `HANG`."""

    async def wait(self) -> None:
        """Wait forever, until the client disconnects."""
        await anyio.sleep_forever()


HANG = Hang()
"""A step at which the model is silent until its client disconnects; then `ScriptedModel.left` is set."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request to the model: the path, the headers with their names in lower case, and the JSON of the body."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


class ScriptedModel(Server):
    """Plays one script for each request, and repeats the last one after that.

    A script's steps are those of a `ScriptedBackend`: texts and events are the model's output, an `AgentError` is returned
    as the error or ends the stream, and `HANG` makes the model hang. The usage is in a `UsageReported`, or else 10 and 5
    tokens. The model answers for any model name, and accepts any key.

    Attributes:
        requests: the requests so far, in order.
        left: set once a client has disconnected before the end of an answer.

    Raises ValueError if there is no script at all.
    """

    def __init__(self, *scripts: Iterable[Step]) -> None:
        self.requests: list[ModelRequest] = []
        self.left = threading.Event()
        backend = _ModelBackend(self.left, [_with_usage(script) for script in scripts])
        super().__init__(
            {"scripted": backend}, unknown_model="default", hosts=["*"], housekeeping=None, apis=[MESSAGES]
        )

    async def handle(self, request: HttpRequest, send: Send, has_room: HasRoom | None = None) -> None:
        """Answer one request, and record it if it is a POST."""
        body = b"".join([piece async for piece in request.body])
        if request.method == "POST":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
            self.requests.append(ModelRequest(request.path, headers, _parse_object(body)))

        async def forward(message: ResponseStart | ResponseBody) -> None:
            if isinstance(message, ResponseStart):
                # A model's API leaves it to its client whether to retry.
                kept = [field for field in message.headers if field[0].lower() != b"x-should-retry"]
                message = ResponseStart(message.status, kept)
            await send(message)

        await super().handle(replace(request, body=_single_chunk(body)), forward, has_room)


class _ModelBackend(ScriptedBackend):
    """Plays the scripts, and sets `left` if a client disconnects before the end."""

    def __init__(self, left: threading.Event, scripts: Iterable[Iterable[Step]]) -> None:
        super().__init__(*scripts, capabilities=Capabilities(logprobs=True, audio_output=True, prediction=True))
        self._left = left

    async def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        try:
            async for item in super().run(request, context):
                yield item
        except (anyio.get_cancelled_exc_class(), GeneratorExit):
            self._left.set()
            raise


def _with_usage(script: Iterable[Step]) -> list[Step]:
    """The script with its usage first, since Anthropic's API sends that first."""
    steps = list(script)
    usage = [step for step in steps if isinstance(step, UsageReported)]
    return [*(usage or [USAGE]), *[step for step in steps if not isinstance(step, UsageReported)]]


def _parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; an empty one for anything else, which is answered with a 400."""
    with suppress(ValueError):
        read = from_json(body)
        if isinstance(read, dict):
            return cast("dict[str, Any]", read)
    return {}


async def _single_chunk(body: bytes) -> AsyncIterator[bytes]:
    yield body
