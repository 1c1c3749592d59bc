"""The backend port: what drives an agent, what it is given, and what it declares."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

from .events import AgentEvent, PendingCall
from .messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolMessage,
    UserMessage,
    UserTurn,
    plain_messages,
    turns_of,
)

# No tokenizer would be the right one: which model is behind an agent is not known.
CHARACTERS_PER_TOKEN = 4
"""How long a token is taken to be where the agent does not count tokens itself."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Declares what an agent can take and does itself. A request that needs more is a 400 that names the parameter.

    Attributes:
        history: "full" if the agent reads the whole conversation, "last_user" if only the newest user message.
        client_tools: it can call tools that the client runs. Where it cannot, `tools` are no error, since many clients
            send theirs with every request; a `tool_choice` that requires a call is one.
        vision: it can take images.
        audio_input: it can take speech.
        files: it can take documents.
        structured_output: it follows `response_format`.
        audio_output: it can speak (`modalities: ["audio"]`).
        logprobs: it reports token probabilities.
        web_search: it follows `web_search_options`.
        prediction: it makes use of `prediction`.
        repairs_output: it can be asked once more where its answer was not the JSON that the request wants.
        context_window: tokens that its model can take; its conversations are made shorter in time. None: not known.
        counts_tokens: it obeys `max_tokens` by itself, so that the server does not cut by its own estimate.
        own_tools: the names of the tools that it runs itself. A client cannot offer a tool by one of them.
        approvals: what a person may do about a call that it asks about: "edit" if they may change its arguments, "yes_no"
            if they can only approve or deny it as it is, "none" if it never asks.
        parameters: the fields of `Sampling` that it passes on to its model. What a client sends of the others is named
            in the answer's header `X-Ignored-Parameters`. None: not told.
        security_modes: it obeys `security_mode`, by which a request tightens what its own tools may do.
        keeps_state: it leaves a `state` where it pauses for the client's tools. Its calls get ids of the server's then, by
            which the state is found again where there is no conversation; the agent sees its own.
        state_version: the form of its states. One that was left in another form is not given to it: a new turn begins without,
            and what has paused cannot be gone on with (409 `state_unreadable`).
        upstream: the model behind it, as `provider/model`, or its provider alone. None: not told.
    """

    history: Literal["full", "last_user"] = "full"
    client_tools: bool = True
    vision: bool = True
    audio_input: bool = True
    files: bool = True
    structured_output: bool = True
    audio_output: bool = False
    logprobs: bool = False
    web_search: bool = False
    prediction: bool = False
    repairs_output: bool = False
    counts_tokens: bool = False
    context_window: int | None = None
    own_tools: frozenset[str] = frozenset()
    approvals: Literal["none", "yes_no", "edit"] = "edit"
    parameters: frozenset[str] | None = None
    security_modes: bool = False
    keeps_state: bool = False
    state_version: int = 0
    upstream: str | None = field(default=None, compare=False)  # who it is, not what it can

    def __post_init__(self) -> None:
        if self.approvals not in ("none", "yes_no", "edit"):
            raise ValueError("an agent's approvals are 'none', 'yes_no' or 'edit'")
        if self.parameters is not None:
            known = {each.name for each in fields(Sampling)}
            unknown = [name for name in self.parameters if name not in known]
            # A string would be taken for the names of its letters.
            if isinstance(cast("Any", self.parameters), str) or unknown:
                raise ValueError(f"an agent's parameters are some of {', '.join(sorted(known))}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. `id` is a stable name that is safe to log; never the key itself. `models` None means all."""

    id: str
    models: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(cast("Any", self.id), str):
            raise TypeError("a principal's id is a string")
        # A string would be taken for the names of its letters.
        if isinstance(self.models, str):
            raise TypeError("a principal's models are several names: a frozenset of strings")

    def may_use(self, model: str) -> bool:
        """True if the model is among those allowed."""
        return self.models is None or model in self.models


ANONYMOUS = Principal("anonymous")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, and which of its headers the agent is to see."""

    principal: Principal = ANONYMOUS
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A function that the client offers to run. `parameters` is its JSON Schema."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class CustomTool:
    """A tool that the client offers to run and that takes free text; `format` may restrict it by a grammar."""

    name: str
    description: str | None = None
    format: Mapping[str, Any] | None = None


Tool: TypeAlias = FunctionTool | CustomTool


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which of the client's tools may be called (`names`), whether one must be, and which may not be now."""

    names: frozenset[str]
    required: bool = False
    withheld: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sampling:
    """Numbers for the model behind the agent; None where the client sent none.

    The server enforces `stop`, `max_tokens` (tokens) and `max_tool_calls` (calls of the agent's own tools) itself,
    whatever the agent does with them: the turn ends there. `top_logprobs` is
    how many alternatives to report with each token's probability, and None where no probabilities are wanted.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    max_tool_calls: int | None = None

    def given(self) -> dict[str, Any]:
        """Those that the client has sent, by name, to be passed on."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value not in (None, ())}


class JsonSchema(NamedTuple):
    """The JSON Schema that an answer has to follow; one that asks for an object, where the client has sent none."""

    name: str
    schema: Mapping[str, Any]
    strict: bool


NO_TOOLS = ToolChoice(frozenset())
NO_SAMPLING = Sampling()
ONLY_TEXT = frozenset({"text"})


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision about a tool call that waited for approval; `arguments` are theirs, if they changed them.

    `always` approves further calls too: those just like it, or those that the pattern in `pattern` names.
    """

    approved: bool
    reason: str | None = None
    arguments: str | None = None
    always: bool = False
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """The answers that an earlier turn paused for: results of the client's tools and decisions, by call id.

    Attributes:
        results: the results of the client's tools.
        decisions: what was decided about the agent's own.
        state: what the agent left in `Paused`.
        calls: the calls that were decided about, as the agent told of them.
        superseded: the user has sent another message instead, which is the last of `messages`: nobody has decided, and there
            are no results. Nothing may run that has waited.
        lost: the agent has left a state in `Paused`, which is not there any more: it has expired, was used by a request
            before this one, or is kept in another process.
    """

    results: Mapping[str, ToolMessage]
    decisions: Mapping[str, Decision] = field(default_factory=dict[str, Decision])
    state: Mapping[str, Any] | None = None
    calls: Mapping[str, PendingCall] = field(default_factory=dict[str, PendingCall])
    superseded: bool = False
    lost: bool = False

    def may_run(self, call_id: str) -> bool:
        """False for a call that somebody has denied."""
        decision = self.decisions.get(call_id)
        return decision is None or decision.approved


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRequest:
    """One turn's work, whatever API it came by.

    Attributes:
        model: the name the client asked for.
        messages: the whole conversation, oldest first. Calls and results come in pairs.
        new_messages: the end of it that no earlier answer has seen: everything after the last assistant message.
        raw_messages: the conversation as the OpenAI chat API writes it, as plain dicts.
        raw_items: the conversation as the Responses API writes it, items of unknown types too; None for requests
            that came by another API.
        tools: the client's tools that may be called now; empty when `tool_choice` is "none".
        tool_choice: which of them may, and whether one must be called.
        parallel_tool_calls: False when at most one of them may be called.
        sampling: numbers for the model.
        response_format: the `response_format` object (`json_object`, `json_schema`), None for plain text.
        modalities: "text", and "audio" if speech is wanted.
        audio: voice and format of that speech.
        logprobs: whether token probabilities are wanted; `sampling.top_logprobs` says how many for each token.
        prediction: the `prediction` object, from clients that know most of the answer.
        web_search_options: the `web_search_options` object, from clients that want the web searched.
        stream: whether the client reads the answer as it is made; no agent needs to care.
        principal: who calls.
        metadata: the client's own labels.
        user: the client's name for its end user; Open WebUI can send an object.
        headers: the request headers that the server was told to pass on, names in lower case.
        conversation_id: the conversation kept on the server that this turn belongs to, None if there is none. It is
            unique for its principal only: to keep something of your own for a conversation, use `session_key`.
        state: what this agent has left in `Finished` or `Paused` of the turn that this one continues: the last one of its
            conversation, or that of `previous_response_id`. None if it has left nothing there, or the server has ended
            that turn before it could.
        resume: results and decisions that the last turn paused for, None on a fresh message.
        purpose: "summary" if the server asks for a summary of the conversation, with which it goes on in its place: the
            last message says so. Whatever an agent does else, such as remembering, is not wanted then.
        extra: the fields of the request that mean nothing to the server, known ones (`prompt_cache_key`,
            `service_tier` …) and unknown ones, as sent.
        plain: whether its messages are known to be texts, calls of functions and results, each call with its result, and
            nothing to be resumed.
    """

    model: str
    messages: tuple[Message, ...]
    raw_messages: list[dict[str, Any]]
    raw_items: list[dict[str, Any]] | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = NO_TOOLS
    parallel_tool_calls: bool = True
    sampling: Sampling = NO_SAMPLING
    response_format: Mapping[str, Any] | None = None
    modalities: frozenset[str] = ONLY_TEXT
    audio: Mapping[str, Any] | None = None
    logprobs: bool = False
    prediction: Mapping[str, Any] | None = None
    web_search_options: Mapping[str, Any] | None = None
    stream: bool = False
    principal: Principal = ANONYMOUS
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    user: str | Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    conversation_id: str | None = None
    state: Mapping[str, Any] | None = None
    resume: Resume | None = None
    purpose: Literal["answer", "summary"] = "answer"
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    plain: bool = field(default=False, init=False, repr=False, compare=False)

    def type_later(self) -> None:
        """It is `plain`, as `raw_messages` shows: `messages` are made when somebody looks at them.

        Most agents read `prompt` or the plain dicts, and to type a long history costs more than all else.
        """
        object.__setattr__(self, "plain", True)
        object.__delattr__(self, "messages")

    if not TYPE_CHECKING:  # type checkers would let every attribute pass

        def __getattr__(self, name: str) -> tuple[Message, ...]:
            """The messages, when they are asked for the first time."""
            if name != "messages":
                raise AttributeError(f"an AgentRequest has no {name!r}", name=name, obj=self)
            typed = plain_messages(self.raw_messages)
            object.__setattr__(self, "messages", typed)
            return typed

    @property
    def prompt(self) -> str:
        """The text of the last user message; of the last message with a text, where none is from the user."""
        if self.plain:
            for raw in reversed(self.raw_messages):
                if raw["role"] == "user":
                    return str(raw["content"])
            return str(next((raw["content"] for raw in reversed(self.raw_messages) if raw["content"]), ""))
        for message in reversed(self.messages):
            if isinstance(message, UserMessage):
                return message.text
        return next((message.text for message in reversed(self.messages) if message.text), "")

    @property
    def system(self) -> str:
        """The instructions of the conversation, as one text."""
        texts = [message.text for message in self.messages if isinstance(message, SystemMessage)]
        return "\n\n".join([text for text in texts if text.strip()])

    @property
    def turns(self) -> tuple[UserTurn | AssistantMessage, ...]:
        """The conversation without instructions, the user's side and the assistant in turn (see `messages.turns_of`)."""
        return turns_of(self.messages)

    @property
    def json_schema(self) -> JsonSchema | None:
        """The schema of `response_format`; None for plain text, and for JSON without one (`json_object`)."""
        if self.response_format is None or self.response_format["type"] != "json_schema":
            return None
        told = self.response_format["json_schema"]
        return JsonSchema(told["name"], told.get("schema") or {"type": "object"}, told.get("strict") is True)

    @property
    def session_key(self) -> str | None:
        """A name for this conversation of this principal, to keep something by; None if there is no conversation.

        It tells nothing, no two principals have the same one, and it is the same in every process.
        """
        if self.conversation_id is None:
            return None
        # As JSON, since two ids put together could be those of another principal and conversation.
        whose = json.dumps([self.principal.id, self.conversation_id])
        return f"session_{hashlib.sha256(whose.encode()).hexdigest()[:40]}"

    @property
    def new_messages(self) -> tuple[Message, ...]:
        """Everything after the last assistant message: what the agent has not seen yet."""
        for index in range(len(self.messages) - 1, -1, -1):
            if isinstance(self.messages[index], AssistantMessage):
                return self.messages[index + 1 :]
        return self.messages


_MAKING = threading.Lock()
"""Held while a context gets its event: two threads may ask at once."""


class Asker(Protocol):
    """Asks for what an agent waits for."""

    async def ask(self, call: PendingCall, state: Mapping[str, Any] | None) -> Decision | ToolMessage:
        """End the turn with this call, and return what a later request brings for it. Its id may be empty."""
        ...


class RunContext:
    """The server's side of a run, for the agent to use while it runs.

    Attributes:
        turn_id: this run's id; the answer's id for a single choice.
        request_id: the `x-request-id` of the HTTP answer, to find the log lines.
        cancelled: True once the turn is to stop. Long loops in plain functions should look at it; any thread may.
        asker: what ends the turn for a question; None where nobody can be asked. Set by the server.
    """

    __slots__ = ("_deadline", "_logger", "_wakes", "asker", "cancelled", "request_id", "turn_id")

    def __init__(self, turn_id: str, request_id: str, deadline: float, logger: logging.Logger) -> None:
        self.turn_id = turn_id
        self.request_id = request_id
        self.cancelled = False
        self.asker: Asker | None = None
        self._logger = logger
        self._deadline = deadline
        self._wakes: threading.Event | None = None  # made for who waits; most agents only look, or not even that

    async def approve(self, tool: str, arguments: str = "{}", *, state: Mapping[str, Any] | None = None) -> Decision:
        """Ask a person whether a call may run, and wait for the decision, over whatever API the request came.

        The turn ends with the question. The agent waits where it is, in this process, until a later request brings
        the decision: for `Deadlines.parked` seconds, after which it gets a denial and is stopped.

        With `state`, nothing waits: the agent ends here, and is run anew when the decision is there, by any process.
        `request.resume` has the state and the decision then, and asking about the same call returns it at once.

        Args:
            tool: the name of the agent's tool.
            arguments: its arguments, as JSON text.
            state: what the agent needs to be run again, as JSON.
        """
        answer = await self._asked(PendingCall("", tool, arguments, "approval"), state)
        if not isinstance(answer, Decision):
            raise TypeError(f"a result came for the question about {tool!r}")
        return answer

    async def call_client_tool(
        self, tool: str, arguments: str = "{}", *, state: Mapping[str, Any] | None = None
    ) -> ToolMessage:
        """Call one of the client's tools (`request.tools`), and wait for its result. The rest is as for `approve`."""
        answer = await self._asked(PendingCall("", tool, arguments, "result"), state)
        if not isinstance(answer, ToolMessage):
            raise TypeError(f"a decision came for the call of {tool!r}")
        return answer

    async def _asked(self, call: PendingCall, state: Mapping[str, Any] | None) -> Decision | ToolMessage:
        if self.asker is None:
            raise RuntimeError("Nobody can be asked: the turn is over, or no server runs it.")
        return await self.asker.ask(call, state)

    def move_to(self, later: RunContext) -> None:
        """Go on as the context of a later turn, in which the agent got what it waited for. Called by the server."""
        self.turn_id, self.request_id, self._deadline = later.turn_id, later.request_id, later._deadline

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """Writes to the server's log, with the request id."""
        return logging.LoggerAdapter(self._logger, {"request_id": self.request_id})

    @property
    def remaining(self) -> float:
        """Seconds left until the server stops the turn."""
        return max(0.0, self._deadline - time.monotonic())

    def wait_cancelled(self, seconds: float) -> bool:
        """Sleep up to `seconds` in a plain function, less if the turn is to stop; tells whether it is."""
        with _MAKING:
            self._wakes = wakes = self._wakes or threading.Event()
        # Looked at once the event is there: whoever cancels from now on finds it.
        return self.cancelled or wakes.wait(seconds)

    def cancel(self) -> None:
        """Tell the agent to stop. Called by the server."""
        self.cancelled = True
        if self._wakes is not None:
            self._wakes.set()


@runtime_checkable
class AgentBackend(Protocol):
    """Drives an agent: the one interface between the server and whatever does the work.

    `run` is called once for each turn, and its events are read in a task of their own. A backend may have further
    methods, each with a protocol of its own in `optional_methods`: `SupportsCancel`, `SupportsClose`, `SupportsSteering`,
    `SupportsTokenCount`, `SupportsToolNames`, `SupportsForget`, `HasTools`.
    """

    @property
    def capabilities(self) -> Capabilities:
        """The agent's capabilities; read before each run."""
        ...

    def run(self, request: AgentRequest, context: RunContext) -> AsyncIterator[AgentEvent | str]:
        """Run the agent for one request. Raise `AgentError` for a failure that the client may read about."""
        ...
