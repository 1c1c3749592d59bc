"""Reads a stream as a client does."""

from __future__ import annotations

from dataclasses import dataclass

import openai
from openai.types.chat import ChatCompletionChunk


def data_of(text: str) -> list[str]:
    """The data of each server-sent event in a body, without comments."""
    return [event.removeprefix("data: ") for event in text.split("\n\n") if event.startswith("data: ")]


@dataclass
class Heard:
    """The text, the finish_reasons of the chunks, and the error that the SDK raised, if any."""

    text: str = ""
    finish_reasons: tuple[str, ...] = ()
    error: openai.APIError | None = None


async def hear(stream: openai.AsyncStream[ChatCompletionChunk]) -> Heard:
    """Read a stream to its end, or to its error."""
    heard = Heard()
    try:
        async for chunk in stream:
            for choice in chunk.choices:
                heard.text += choice.delta.content or ""
                heard.finish_reasons += (choice.finish_reason,) if choice.finish_reason else ()
    except openai.APIError as error:
        heard.error = error
    return heard
