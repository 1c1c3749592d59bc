"""The API of a model that says what it was told to say: for tests of agents, and of programs that call models.

```python
model = ScriptedModel(
    [ToolCallReady("call_1", "weather", '{"city": "Paris"}'), UsageReported(50, 6)],
    ["It is ", "sunny."],
    [AgentError(status=429, retry_after=7)],
)
```

It speaks OpenAI's Chat Completions and Responses and Anthropic's Messages, streamed and plain. It is a `Server`, so it is reached
as any other one: by the transports of `openai_compat_adapters.transport` without a socket, and at a URL by
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
"""What an answer costs whose script tells nothing of it."""


class Hang:
    """A step of a script that never ends; see `HANG`."""

    async def wait(self) -> None:
        """Wait for ever, until the client leaves."""
        await anyio.sleep_forever()


HANG = Hang()
"""A step at which the model falls silent until its client leaves; then `ScriptedModel.left` is set."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What the model was asked: the path, the headers with their names in lower case, and the JSON of the body."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


class ScriptedModel(Server):
    """Plays one script for each request, and the last one for every request after that.

    A script's steps are those of a `ScriptedBackend`: texts and events are what the model says, an `AgentError` is the
    error that it answers with, or ends its stream with, and `HANG` keeps it waiting. What it costs is in a
    `UsageReported`, or else 10 and 5 tokens. It answers for models of any name, and takes any key.

    Attributes:
        requests: what it was asked, in order.
        left: set once a client has left an answer that was not at its end.

    Raises ValueError if there is no script at all.
    """

    def __init__(self, *scripts: Iterable[Step]) -> None:
        self.requests: list[ModelRequest] = []
        self.left = threading.Event()
        voice = _Voice(self.left, [_complete(script) for script in scripts])
        super().__init__({"scripted": voice}, unknown_model="default", hosts=["*"], housekeeping=None, apis=[MESSAGES])

    async def handle(self, request: HttpRequest, send: Send, has_room: HasRoom | None = None) -> None:
        """Answer one request, and keep it if it asks the model something."""
        body = b"".join([piece async for piece in request.body])
        if request.method == "POST":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
            self.requests.append(ModelRequest(request.path, headers, _fields(body)))

        async def forward(message: ResponseStart | ResponseBody) -> None:
            if isinstance(message, ResponseStart):
                # A model's API leaves it to its client whether to try again.
                kept = [field for field in message.headers if field[0].lower() != b"x-should-retry"]
                message = ResponseStart(message.status, kept)
            await send(message)

        await super().handle(replace(request, body=_once(body)), forward, has_room)


class _Voice(ScriptedBackend):
    """What the model says, and whether somebody has heard it to the end."""

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


def _complete(script: Iterable[Step]) -> list[Step]:
    """The script with its usage first, which Anthropic's API begins with."""
    steps = list(script)
    usage = [step for step in steps if isinstance(step, UsageReported)]
    return [*(usage or [USAGE]), *[step for step in steps if not isinstance(step, UsageReported)]]


def _fields(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; an empty one for anything else, which is answered with a 400."""
    with suppress(ValueError):
        read = from_json(body)
        if isinstance(read, dict):
            return cast("dict[str, Any]", read)
    return {}


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
