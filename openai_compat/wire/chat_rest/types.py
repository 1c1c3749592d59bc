"""Requests and responses of the chat REST API: profClaw's API, in camelCase, with OpenAI's error envelope."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from ..chat.request_types import WHOLE, TokenLimit, WireModel

# As in chat: reading millions of messages would block the event loop.
MAX_MESSAGES = 10_000
MAX_STEPS = 200
DEFAULT_STEPS = 20
DEFAULT_BUDGET = 500_000

# At least one non-blank character is required.
Text: TypeAlias = Annotated[str, StringConstraints(pattern=r"\S")]
Name: TypeAlias = Annotated[str, MinLen(1), MaxLen(256)]
Title: TypeAlias = Annotated[str, MinLen(1), MaxLen(512)]
SecurityMode: TypeAlias = Literal["deny", "sandbox", "allowlist", "ask", "full"]
DecisionWord: TypeAlias = Literal["allow-once", "allow-always", "deny"]
FinishReason: TypeAlias = Literal["stop", "length", "tool-calls", "content-filter", "approval-required"]


class CamelModel(WireModel):
    """Base class of the API's requests."""

    model_config = ConfigDict(alias_generator=to_camel, defer_build=True)


class ChatMessage(CamelModel):
    """A message of `messages`. `content` is text; images and files are supported by the other APIs only."""

    role: Literal["user", "assistant", "system"]
    content: str


class TurnRequest(CamelModel):
    """Fields shared by all requests that run an agent."""

    model: Name | None = None
    provider: Name | None = None
    system_prompt: str | None = None
    temperature: Annotated[float, Ge(0), Le(2)] | None = None
    max_tokens: TokenLimit = None
    security_mode: SecurityMode | None = None
    preset_id: Name | None = None
    task_id: Name | None = None
    ticket_id: Name | None = None


class CompletionsRequest(TurnRequest):
    """The body of `POST /completions` and `/smart`."""

    messages: Annotated[list[ChatMessage], MinLen(1), MaxLen(MAX_MESSAGES)]
    stream: bool | None = None
    conversation_id: Name | None = None


class QuickRequest(TurnRequest):
    """The body of `POST /quick`."""

    prompt: Text


class RestNewConversation(CamelModel):
    """The body of `POST /conversations`."""

    title: Title | None = None
    preset_id: Name | None = None
    task_id: Name | None = None
    ticket_id: Name | None = None
    project_id: Name | None = None


class NewTitle(CamelModel):
    """The body of `POST /conversations/{id}/title`."""

    title: Title


class ForkRequest(CamelModel):
    """The body of `POST /conversations/{id}/fork`. `message_id` is the last message to copy; by default all are copied."""

    message_id: Name | None = None
    title: Title | None = None


class MessageRequest(TurnRequest):
    """The body of `POST /conversations/{id}/messages`."""

    content: Text
    stream: bool | None = None


class ToolMessageRequest(MessageRequest):
    """The body of `POST /conversations/{id}/messages/with-tools`."""

    enable_tools: bool | None = None


class AgenticRequest(TurnRequest):
    """The body of `POST /conversations/{id}/messages/agentic`. `max_budget` is in tokens."""

    content: Text
    show_thinking: bool | None = None
    max_steps: Annotated[int, Ge(1), Le(MAX_STEPS), WHOLE] | None = None
    max_budget: Annotated[int, Ge(1000), WHOLE] | None = None
    effort: Literal["low", "medium", "high", "max"] | None = None


class ApproveRequest(CamelModel):
    """The body of `POST /tools/approve`. `arguments` replace the model's arguments."""

    conversation_id: Name
    approval_id: Name
    decision: DecisionWord
    reason: Annotated[str, MaxLen(4096)] | None = None
    arguments: dict[str, Any] | str | None = None
    # Stored with the grant and matched against each later call of the tool.
    pattern: Annotated[str, MaxLen(4096)] | None = None
    stream: bool | None = None
    background: bool | None = None


class ConfigureRequest(CamelModel):
    """The body of `POST /providers/{type}/configure`. Omitted fields stay unchanged."""

    type: Name | None = None
    api_key: Annotated[str, MinLen(1), MaxLen(4096)] | None = None
    # The provider's key is sent to this URL.
    base_url: Annotated[str, MaxLen(2048), StringConstraints(pattern=r"^https?://[^/\s]")] | None = None
    resource_name: Name | None = None
    deployment_name: Name | None = None
    api_version: Name | None = None
    default_model: Name | None = None
    enabled: bool | None = None


class DefaultProviderRequest(CamelModel):
    """The body of `POST /providers/default`."""

    provider: Name


class TokenUsage(TypedDict):
    """The tokens of a turn, summed over all runs of its agent; 0 if the agent reports none."""

    promptTokens: int
    completionTokens: int
    totalTokens: int


class ToolCallRecord(TypedDict):
    """A call of one of the agent's tools."""

    id: str
    name: str
    arguments: Any
    result: NotRequired[str]
    status: Literal["success", "error", "denied", "pending"]


class PendingApproval(TypedDict):
    """A call that waits for a user's decision. Times are ISO 8601."""

    id: str
    toolCallId: str
    toolName: str
    params: Any
    conversationId: str | None
    securityLevel: Literal["moderate", "dangerous"]
    status: Literal["pending"]
    createdAt: str
    expiresAt: str


class RestConversation(TypedDict):
    """A conversation. Times are ISO 8601."""

    id: str
    title: str
    presetId: str | None
    taskId: NotRequired[str]
    ticketId: NotRequired[str]
    projectId: NotRequired[str]
    createdAt: str
    updatedAt: str


class Message(TypedDict):
    """A message of a conversation."""

    id: str
    conversationId: str
    role: Literal["user", "assistant", "system"]
    content: str
    model: NotRequired[str]
    provider: NotRequired[str]
    thinking: NotRequired[str]
    tokenUsage: NotRequired[dict[str, int]]
    toolCalls: NotRequired[list[ToolCallRecord]]
    createdAt: str


class Artifact(TypedDict):
    """Output of the agent other than text: its media type, and base64 data."""

    type: str
    data: str


class AssistantText(TypedDict):
    """The agent's message in the response of `completions`."""

    role: Literal["assistant"]
    content: str


class RestCompaction(TypedDict):
    """The summary that replaced the beginning of the conversation."""

    summary: str


class RestCompletion(TypedDict):
    """The response of `completions` and `smart`. `duration` is in milliseconds."""

    id: str
    provider: str
    model: str
    message: AssistantText
    finishReason: FinishReason
    usage: TokenUsage
    duration: int
    conversationId: NotRequired[str]
    messageId: NotRequired[str]
    context: NotRequired[dict[str, str | None]]
    toolCalls: NotRequired[list[ToolCallRecord]]
    pendingApprovals: NotRequired[list[PendingApproval]]
    artifacts: NotRequired[list[Artifact]]


class QuickAnswer(TypedDict):
    """The response of `POST /quick`, which belongs to no conversation."""

    content: str
    model: str
    provider: str
    usage: TokenUsage


class ToolSupport(TypedDict):
    """Indicates if the agent's tools were requested, are supported, and were used."""

    requested: bool
    supported: bool
    used: bool
    recommendation: str | None


class MessageAnswer(TypedDict):
    """The response of `messages` and `messages/with-tools`."""

    userMessage: Message | None
    assistantMessage: Message
    usage: TokenUsage
    finishReason: FinishReason
    compaction: RestCompaction | None
    toolCalls: NotRequired[list[ToolCallRecord]]
    pendingApprovals: NotRequired[list[PendingApproval]]
    toolSupport: NotRequired[ToolSupport]
    artifacts: NotRequired[list[Artifact]]


class ConversationAnswer(TypedDict):
    """The response of every request that creates or changes a conversation."""

    conversation: RestConversation


class ConversationWithMessages(ConversationAnswer):
    """A conversation with all its messages."""

    messages: list[Message]


class ConversationExport(ConversationWithMessages):
    """A conversation with all its messages, for export."""

    exportedAt: str


class ConversationList(TypedDict):
    """A page of conversations; pass `nextCursor` as `cursor` to get the next page."""

    conversations: list[RestConversation]
    total: int
    nextCursor: str | None


class Done(TypedDict):
    """A response that only confirms success."""

    success: Literal[True]


class ApproveAnswer(TypedDict):
    """The response of `tools/approve`: the decision and, if the turn resumed, its outcome."""

    success: Literal[True]
    decision: DecisionWord
    resumed: bool
    result: NotRequired[str | None]
    assistantMessage: NotRequired[Message]
    toolCalls: NotRequired[list[ToolCallRecord]]
    pendingApprovals: list[PendingApproval]
    finishReason: NotRequired[FinishReason]
    usage: NotRequired[TokenUsage]


class ApprovalList(TypedDict):
    """The calls that wait for a decision."""

    approvals: list[PendingApproval]


class GrantEntry(TypedDict):
    """An always-allow grant of the caller. `allow` has `arguments`, a command's words as `argv`, or a `pattern` for them."""

    id: str
    agent: str
    tool: str
    allow: dict[str, Any]
    createdAt: str


class GrantList(TypedDict):
    """All always-allow grants of the caller, oldest first."""

    grants: list[GrantEntry]


class MessageList(TypedDict):
    """The messages of a conversation."""

    messages: list[Message]


class ModelEntry(TypedDict):
    """A model and its provider."""

    id: str
    name: str
    provider: str


class Alias(TypedDict):
    """An alternative name of a model."""

    alias: str
    provider: str
    model: str


class OfferedModels(TypedDict):
    """The models that a provider offers."""

    models: list[ModelEntry]


class RestModelList(OfferedModels):
    """The available models and their aliases."""

    aliases: list[Alias]


class ProviderEntry(TypedDict):
    """A provider and its health."""

    type: str
    enabled: bool
    healthy: bool
    message: str
    latencyMs: int | None


class ProviderList(TypedDict):
    """The providers, and the default one."""

    default: str
    providers: list[ProviderEntry]


class ProviderHealth(TypedDict):
    """The outcome of a health check. `latencyMs` is null if there was no response."""

    provider: str
    healthy: bool
    message: str
    latencyMs: int | None


class ProviderChanged(Done):
    """The outcome of changing a provider's settings or the default provider."""

    message: str


class ToolEntry(TypedDict):
    """A tool and the agents that have it. `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Any]
    danger: Literal["safe", "risky", "dangerous"]
    agents: list[str]


class ToolList(TypedDict):
    """The tools that agents run themselves, each listed once with its agents."""

    tools: list[ToolEntry]
    total: int
