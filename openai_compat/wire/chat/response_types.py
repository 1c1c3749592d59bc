"""The answers of Chat Completions, plain and as chunks. Typed dicts, so that building one costs nothing extra.

Source: OpenAI's OpenAPI document (CreateChatCompletionResponse, CreateChatCompletionStreamResponse).
`reasoning_content` and `images` are not OpenAI's: they are the names that clients read by common use.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class ChatFunctionCall(TypedDict):
    """A call's name and arguments, which are JSON text."""

    name: str
    arguments: str


class FunctionToolCall(TypedDict):
    """A call of a function that the client is to run."""

    id: str
    type: Literal["function"]
    function: ChatFunctionCall


class CustomCall(TypedDict):
    """A call's name and free-text input."""

    name: str
    input: str


class ChatCustomToolCall(TypedDict):
    """A call of a custom tool that the client is to run."""

    id: str
    type: Literal["custom"]
    custom: CustomCall


class UrlCitation(TypedDict):
    """A source; the indexes are character positions in the message's text."""

    start_index: int
    end_index: int
    url: str
    title: str


class Annotation(TypedDict):
    """A remark on a part of the text."""

    type: Literal["url_citation"]
    url_citation: UrlCitation


class Audio(TypedDict):
    """Speech that the agent made: base64 data, with its text as a transcript."""

    id: str
    data: str
    expires_at: int
    transcript: str


class ImageUrl(TypedDict):
    """A picture as a `data:` URL."""

    url: str


class Image(TypedDict):
    """A picture that the agent made. The index lets accumulators tell a second picture from more of the first."""

    index: int
    type: Literal["image_url"]
    image_url: ImageUrl


class AssistantReply(TypedDict):
    """The assistant's message. `content` and `refusal` are always there, and may be null."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    annotations: NotRequired[list[Annotation]]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[FunctionToolCall | ChatCustomToolCall]]
    audio: NotRequired[Audio]
    images: NotRequired[list[Image]]


class Logprobs(TypedDict):
    """How probable each token was, as the agent tells it."""

    content: list[Any] | None
    refusal: list[Any] | None


ChatFinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ChatChoice(TypedDict):
    """One of the `n` answers to a request."""

    index: int
    message: AssistantReply
    logprobs: Logprobs | None
    finish_reason: ChatFinishReason


class PromptTokensDetails(TypedDict):
    """What the prompt's tokens were."""

    cached_tokens: int


class CompletionTokensDetails(TypedDict):
    """What the answer's tokens were."""

    reasoning_tokens: int


class CompletionUsage(TypedDict):
    """Tokens used. Details are there only when the agent reported them.

    `reported` is an extension, and always False where it is present: the agent said nothing about tokens, so the
    zeros are not a count.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: NotRequired[PromptTokensDetails]
    completion_tokens_details: NotRequired[CompletionTokensDetails]
    reported: NotRequired[Literal[False]]


class ChatCompletion(TypedDict):
    """The whole answer. `system_fingerprint` says nothing, but strict clients want it to be there."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: None
    choices: list[ChatChoice]
    usage: CompletionUsage


class FunctionDelta(TypedDict):
    """A piece of a call: the name comes once, with the first piece."""

    name: NotRequired[str]
    arguments: NotRequired[str]


class CustomDelta(TypedDict):
    """A piece of a custom tool's call."""

    name: NotRequired[str]
    input: NotRequired[str]


class ToolCallChunk(TypedDict):
    """A piece of the call at `index`: id and type come once, with the first piece."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function", "custom"]]
    function: NotRequired[FunctionDelta]
    custom: NotRequired[CustomDelta]


class AudioDelta(TypedDict):
    """A piece of speech; id and transcript come with the pieces that have them."""

    id: NotRequired[str]
    data: NotRequired[str]
    transcript: NotRequired[str]
    expires_at: NotRequired[int]


class Delta(TypedDict):
    """What a chunk adds to the message; `role` comes once, in the first one, where `content` and `refusal` may be null."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str | None]
    refusal: NotRequired[str | None]
    reasoning_content: NotRequired[str]
    annotations: NotRequired[list[Annotation]]
    tool_calls: NotRequired[list[ToolCallChunk]]
    audio: NotRequired[AudioDelta]
    images: NotRequired[list[Image]]


class ChunkChoice(TypedDict):
    """The part of a chunk that belongs to one of `n` answers."""

    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: ChatFinishReason | None


class ChatStatusData(TypedDict):
    """A line that Open WebUI shows while the agent works."""

    description: str
    done: bool


class ChatStatusEvent(TypedDict):
    """An extension that Open WebUI draws and that every other client tried ignores."""

    type: Literal["status"]
    data: ChatStatusData


class ChatCompletionChunk(TypedDict):
    """One event of a streamed answer. `choices` is empty in the last one, which carries `usage`, if it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: None
    choices: list[ChunkChoice]
    usage: NotRequired[CompletionUsage | None]
    event: NotRequired[ChatStatusEvent]


class TextChoice(TypedDict):
    """One answer, or a piece of one."""

    index: int
    text: str
    logprobs: None
    finish_reason: Literal["stop", "length", "content_filter"] | None


class TextCompletion(TypedDict):
    """The whole answer, or one event of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: NotRequired[CompletionUsage | None]
