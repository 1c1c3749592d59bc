"""What an agent is asked: the request as every API hands it over, and what came back of an earlier turn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

from .errors import InvalidRequest
from .events import PendingCall
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


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls.

    Attributes:
        id: a stable name that is safe to log; never the key itself. Everything that is stored belongs to it.
        models: the models that it may use; None means all.
        claims: what else is known of it, as who has authenticated it says: for agents, and for limits that depend on
            it. Never logged. It is not part of who it is: two principals with one id are the same.
    """

    id: str
    models: frozenset[str] | None = None
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False, repr=False)

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


@dataclass(slots=True)  # not frozen, which takes three times as long to make
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

    @property
    def input_schema(self) -> dict[str, Any]:
        """Its arguments as a JSON Schema of an object, which has no properties where the client tells of none."""
        return {"type": "object", "properties": {}, **(self.parameters or {})}


@dataclass(frozen=True, slots=True)
class CustomTool:
    """A tool that the client offers to run and that takes free text; `format` may restrict it by a grammar."""

    name: str
    description: str | None = None
    format: Mapping[str, Any] | None = None

    @property
    def input_schema(self) -> dict[str, Any]:
        """An object with the text as its `input`, for models that take functions alone (see `ToolCall.input`)."""
        return {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}


Tool: TypeAlias = FunctionTool | CustomTool


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which of the client's tools may be called (`names`), whether one must be, and which may not be now."""

    names: frozenset[str]
    required: bool = False
    withheld: frozenset[str] = frozenset()


def choice_by_mode(mode: Literal["none", "auto", "required"] | None, names: frozenset[str]) -> ToolChoice:
    """The choice that a mode in `tool_choice` makes of the tools of these names. Raises InvalidRequest."""
    if mode == "none":
        return ToolChoice(frozenset(), withheld=names)
    return choice_by_name(names, names, "tool_choice") if mode == "required" else ToolChoice(names)


def choice_by_name(wanted: AbstractSet[str], names: frozenset[str], param: str, *, required: bool = True) -> ToolChoice:
    """The choice of these tools alone. Raises InvalidRequest if one of them is not among `names`, or there is none."""
    if not wanted or not wanted <= names:
        raise InvalidRequest("'tool_choice' names a tool that is not in 'tools'.", param=param, code="invalid_value")
    return ToolChoice(frozenset(wanted), required, withheld=names - wanted)


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
            before this one, was too large, or is kept in another process.
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


@dataclass(frozen=True, kw_only=True)  # without slots, so that `of_texts` leaves the most of it to the class
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
        is_kept: whether the store keeps this turn so that another can continue it: in a conversation, or as a stored
            response. Else nothing comes back of what is left in `Finished`, but to the same WebSocket; of `Paused` it does.
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
    is_kept: bool = False
    state: Mapping[str, Any] | None = None
    resume: Resume | None = None
    purpose: Literal["answer", "summary"] = "answer"
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    plain: bool = field(default=False, init=False, repr=False, compare=False)

    @classmethod
    def of_texts(cls, model: str, raw_messages: list[dict[str, Any]], *, stream: bool, caller: Caller) -> AgentRequest:
        """One that is `plain` and asks for nothing else, as most do: a third of the time of setting each attribute."""
        request = cls.__new__(cls)
        vars(request).update(
            model=model,
            raw_messages=raw_messages,
            stream=stream,
            principal=caller.principal,
            headers=caller.headers,
            metadata={},
            extra={},
            plain=True,
        )
        return request

    def type_later(self) -> None:
        """It is `plain`, as `raw_messages` shows: `messages` are made when somebody looks at them.

        Most agents read `prompt` or the plain dicts, and to type a long history costs more than all else.
        """
        vars(self)["plain"] = True
        del vars(self)["messages"]

    if not TYPE_CHECKING:  # type checkers would let every attribute pass

        def __getattr__(self, name: str) -> tuple[Message, ...]:
            """The messages, when they are asked for the first time."""
            if name != "messages":
                raise AttributeError(f"an AgentRequest has no {name!r}", name=name, obj=self)
            typed = vars(self)["messages"] = plain_messages(self.raw_messages)
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
