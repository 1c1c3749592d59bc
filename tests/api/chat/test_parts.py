"""Images, audio and documents in a user's message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openai
import pytest

from openai_compat import Capabilities
from openai_compat.messages import AudioPart, FilePart, ImagePart, TextPart, UserMessage
from tests.connecting import Connect, in_process
from tests.requirements import requirement
from tests.support.agents import PROMPT_ONLY, Says

pytestmark = pytest.mark.anyio

TEXT: Any = {"type": "text", "text": "What is this?"}
PNG = "data:image/png;base64,iVBORw0KGgo="
PARTS: dict[str, tuple[Any, Any]] = {
    "a picture": ({"type": "image_url", "image_url": {"url": PNG}}, ImagePart(PNG)),
    "a picture to look at closely": (
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}},
        ImagePart("https://example.com/a.png", "high"),
    ),
    "speech": (
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        AudioPart("UklGRg==", "wav"),
    ),
    "a document": (
        {"type": "file", "file": {"file_data": "JVBERi0=", "filename": "a.pdf"}},
        FilePart(file_data="JVBERi0=", filename="a.pdf"),
    ),
    "text with a cache mark": (
        {"type": "text", "text": "Hi", "prompt_cache_breakpoint": {"mode": "explicit"}},
        TextPart("Hi"),
    ),
}


@requirement("parts.typed")
async def test_every_kind_of_part_reaches_the_agent_typed_and_in_order(connect: Connect) -> None:
    agent = Says("ok")
    content: list[Any] = [TEXT, *[sent for sent, _ in PARTS.values()]]
    async with connect(agent) as client:
        await client.chat.completions.create(model="agent", messages=[{"role": "user", "content": content}])
    typed = [part for _, part in PARTS.values()]
    assert agent.request.messages == (UserMessage((TextPart("What is this?"), *typed)),)
    assert agent.request.raw_messages == [{"role": "user", "content": content}]
    assert agent.request.prompt == "What is this?\nHi"


@requirement("parts.typed")
@in_process
async def test_a_picture_without_words_is_a_message(connect: Connect) -> None:
    agent = Says("a cat")
    content: Any = [PARTS["a picture"][0]]
    async with connect(agent) as client:
        answer = await client.chat.completions.create(model="agent", messages=[{"role": "user", "content": content}])
    assert answer.choices[0].message.content == "a cat"
    assert agent.request.prompt == ""


@requirement("parts.undeclared")
@pytest.mark.parametrize(
    ("name", "cannot"),
    [("a picture", "vision"), ("speech", "audio_input"), ("a document", "files")],
)
@in_process
async def test_a_part_that_the_agent_cannot_take_is_refused_by_its_place(
    name: str, cannot: str, connect: Connect
) -> None:
    unable = Says("ok", can=replace(Capabilities(), **{cannot: False}))
    able = Says("ok", can=replace(PROMPT_ONLY, **{cannot: True}))
    messages: list[Any] = [{"role": "system", "content": "x"}, {"role": "user", "content": [TEXT, PARTS[name][0]]}]
    async with connect({"unable": unable, "able": able}) as client:
        await client.chat.completions.create(model="able", messages=messages)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="unable", messages=messages)
    assert (caught.value.param, caught.value.code) == ("messages[1].content[1]", "unsupported_parameter")
    assert unable.requests == []


@requirement("parts.malformed")
@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url"}, "image_url"),
        ({"type": "image_url", "image_url": PNG}, "image_url"),
        ({"type": "image_url", "image_url": {}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": PNG, "detail": "extreme"}}, "image_url.detail"),
        ({"type": "input_audio", "input_audio": {"format": "wav"}}, "input_audio.data"),
        ({"type": "input_audio", "input_audio": {"data": "UklGRg=="}}, "input_audio.format"),
        ({"type": "file", "file": {"file_data": 1}}, "file.file_data"),
        ({"type": "file"}, "file"),
        ({"type": "text", "text": None}, "text"),
        ({"text": "Hi"}, "type"),
    ],
)
@in_process
async def test_a_malformed_part_is_named_to_the_field(part: Any, param: str, connect: Connect) -> None:
    async with connect(Says("ok")) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="agent", messages=[{"role": "user", "content": [TEXT, part]}])
    assert caught.value.param == f"messages[0].content[1].{param}"
