"""The agent's request, the same for every API, and the results and decisions that resume an earlier turn."""

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
    """The authenticated caller.

    Attributes:
        id: a stable name that is safe to log; never the key itself. The principal owns all that is stored for it.
        models: the models it may use; None means all.
        claims: further facts from the authenticator, for agents and for limits that depend on them. Never logged. Not part
            of the identity: two principals with the same id are equal.
    """

    id: str
    models: frozenset[str] | None = None
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(cast("Any", self.id), str):
            raise TypeError("a principal's id is a string")
        # A string would be read as a set of single letters.
        if isinstance(self.models, str):
            raise TypeError("a principal's models are several names: a frozenset of strings")

    def may_use(self, model: str) -> bool:
        """True if the model is among those allowed."""
        return self.models is None or model in self.models


ANONYMOUS = Principal("anonymous")


@dataclass(slots=True)  # not frozen, which takes three times as long to make
class Caller:
    """The principal of a request, and the request headers that are passed to the agent."""

    principal: Principal = ANONYMOUS
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A function tool that the client offers and runs. `parameters` is its JSON Schema."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None

    @property
    def input_schema(self) -> dict[str, Any]:
        """The JSON Schema of the arguments: always an object, without properties if the client sent no schema."""
        return {"type": "object", "properties": {}, **(self.parameters or {})}


@dataclass(frozen=True, slots=True)
class CustomTool:
    """A tool with free-text input that the client offers and runs; `format` may restrict the text with a grammar."""

    name: str
    description: str | None = None
    format: Mapping[str, Any] | None = None

    @property
    def input_schema(self) -> dict[str, Any]:
        """An object with the text as `input`, for models that only support function tools (see `ToolCall.input`)."""
        return {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}


Tool: TypeAlias = FunctionTool | CustomTool


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """The client tools that may be called (`names`), whether a call is required, and the tools withheld for this turn."""

    names: frozenset[str]
    required: bool = False
    withheld: frozenset[str] = frozenset()


def choice_by_mode(mode: Literal["none", "auto", "required"] | None, names: frozenset[str]) -> ToolChoice:
    """Return the choice for a `tool_choice` mode and the tools of these names. Raises InvalidRequest."""
    if mode == "none":
        return ToolChoice(frozenset(), withheld=names)
    return choice_by_name(names, names, "tool_choice") if mode == "required" else ToolChoice(names)


def choice_by_name(wanted: AbstractSet[str], names: frozenset[str], param: str, *, required: bool = True) -> ToolChoice:
    """Return a choice of the `wanted` tools only. Raises InvalidRequest if it is empty or has a name not in `names`."""
    if not wanted or not wanted <= names:
        raise InvalidRequest("'tool_choice' names a tool that is not in 'tools'.", param=param, code="invalid_value")
    return ToolChoice(frozenset(wanted), required, withheld=names - wanted)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters for the model behind the agent; None where the client sent none.

    The server itself enforces `stop`, `max_tokens` (tokens) and `max_tool_calls` (calls of the agent's own tools): the
    turn ends there, whatever the agent does with them. `top_logprobs` is the number of alternatives to report with each
    token's probability; None if the client wants no probabilities.
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
        """Return the parameters that the client sent, by name, ready to be passed on."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value not in (None, ())}


class JsonSchema(NamedTuple):
    """The JSON Schema that the answer must follow; `{"type": "object"}` if the client sent none."""

    name: str
    schema: Mapping[str, Any]
    strict: bool


NO_TOOLS = ToolChoice(frozenset())
NO_SAMPLING = Sampling()
ONLY_TEXT = frozenset({"text"})


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's decision about a tool call that waited for approval; `arguments` holds their edited arguments, if any.

    `always` also approves later calls: identical ones, or those that match `pattern`.
    """

    approved: bool
    reason: str | None = None
    arguments: str | None = None
    always: bool = False
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """The answers that an earlier turn paused for, by call id.

    Attributes:
        results: results of the client's tools.
        decisions: decisions about calls of the agent's own tools.
        state: the state that the agent left in `Paused`.
        calls: the calls that were decided about, as the agent reported them.
        superseded: the user sent another message instead (the last of `messages`), so there are no decisions and no
            results. None of the waiting calls may run.
        lost: the agent left a state in `Paused` that no longer exists: it expired, was consumed by an earlier request, was
            too large, or is stored in another process.
    """

    results: Mapping[str, ToolMessage]
    decisions: Mapping[str, Decision] = field(default_factory=dict[str, Decision])
    state: Mapping[str, Any] | None = None
    calls: Mapping[str, PendingCall] = field(default_factory=dict[str, PendingCall])
    superseded: bool = False
    lost: bool = False

    def may_run(self, call_id: str) -> bool:
        """False if a person denied this call."""
        decision = self.decisions.get(call_id)
        return decision is None or decision.approved


@dataclass(frozen=True, kw_only=True)  # no slots, so that `of_texts` can leave most defaults to the class
class AgentRequest:
    """The request of one turn, the same for every API.

    Attributes:
        model: the model name that the client requested.
        messages: the whole conversation, oldest first. Calls and results come in pairs.
        new_messages: the messages after the last assistant message, which no earlier answer has seen.
        raw_messages: the conversation in the format of the OpenAI chat API, as plain dicts.
        raw_items: the conversation in the format of the Responses API, including items of unknown types; None for
            requests of any other API.
        tools: the client's tools that may be called now; empty if `tool_choice` is "none".
        tool_choice: the tools that may be called, and True in `required` if a call must be made.
        parallel_tool_calls: False if at most one tool may be called.
        sampling: sampling parameters for the model.
        response_format: the `response_format` object (`json_object`, `json_schema`); None for plain text.
        modalities: "text", and "audio" if the client wants speech.
        audio: voice and format of the speech.
        logprobs: True if the client wants token probabilities; `sampling.top_logprobs` is their number per token.
        prediction: the `prediction` object, from clients that know most of the answer in advance.
        web_search_options: the `web_search_options` object, from clients that want a web search.
        stream: True if the client reads the answer as a stream; agents need not care.
        principal: the caller.
        metadata: the client's labels.
        user: the client's name for its end user; Open WebUI can send an object.
        headers: the request headers named in `Server(agent_headers=...)`, names in lower case.
        conversation_id: the stored conversation of this turn, or None. Unique per principal only: to store data of your
            own by conversation, use `session_key`.
        is_kept: True if the store keeps this turn so that another can continue it, in a conversation or as a stored
            response. Otherwise a state left in `Finished` only comes back on the same WebSocket; one in `Paused` always does.
        state: the state that this agent left in `Finished` or `Paused` of the turn that this one continues: the last turn
            of the conversation, or `previous_response_id`. None if the agent left none, or the server ended that turn first.
        resume: results and decisions that the last turn paused for; None for a fresh message.
        purpose: "summary" if the server requests a summary that will replace the conversation history; the last message
            says so. Side effects, for instance remembering, are not wanted then.
        extra: request fields that the server does not use, as sent: known ones (`prompt_cache_key`, `service_tier` …) and
            unknown ones.
        plain: True if the messages are known to be only texts, function calls and results, each call with its result, and
            nothing is to be resumed.
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
        """Create a `plain` request without further fields, the common case, in a third of the time of `__init__`."""
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
        """Mark the request as `plain`: `messages` are built from `raw_messages` on first access.

        Most agents read `prompt` or the plain dicts, and typing a long history costs more than all other work.
        """
        vars(self)["plain"] = True
        del vars(self)["messages"]

    if not TYPE_CHECKING:  # type checkers would accept any attribute

        def __getattr__(self, name: str) -> tuple[Message, ...]:
            """Build `messages` on first access."""
            if name != "messages":
                raise AttributeError(f"an AgentRequest has no {name!r}", name=name, obj=self)
            typed = vars(self)["messages"] = plain_messages(self.raw_messages)
            return typed

    @property
    def prompt(self) -> str:
        """The text of the last user message, or of the last message with a text if the user sent none."""
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
        """The instructions of the conversation, joined into one text."""
        texts = [message.text for message in self.messages if isinstance(message, SystemMessage)]
        return "\n\n".join([text for text in texts if text.strip()])

    @property
    def turns(self) -> tuple[UserTurn | AssistantMessage, ...]:
        """The conversation without instructions, alternating between user and assistant (see `messages.turns_of`)."""
        return turns_of(self.messages)

    @property
    def json_schema(self) -> JsonSchema | None:
        """The schema of `response_format`; None for plain text and for JSON without a schema (`json_object`)."""
        if self.response_format is None or self.response_format["type"] != "json_schema":
            return None
        schema = self.response_format["json_schema"]
        return JsonSchema(schema["name"], schema.get("schema") or {"type": "object"}, schema.get("strict") is True)

    @property
    def session_key(self) -> str | None:
        """A key to store data of this conversation and principal by; None without a conversation.

        The key reveals nothing, is unique per principal, and is the same in every process.
        """
        if self.conversation_id is None:
            return None
        # As JSON: two concatenated ids could equal those of another principal and conversation.
        whose = json.dumps([self.principal.id, self.conversation_id])
        return f"session_{hashlib.sha256(whose.encode()).hexdigest()[:40]}"

    @property
    def new_messages(self) -> tuple[Message, ...]:
        """The messages after the last assistant message, which the agent has not seen yet."""
        for index in range(len(self.messages) - 1, -1, -1):
            if isinstance(self.messages[index], AssistantMessage):
                return self.messages[index + 1 :]
        return self.messages
