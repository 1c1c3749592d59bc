"""`POST /v1/chat/completions`."""

from __future__ import annotations

from functools import partial

from ..exchange import Exchange
from ..parsers.chat import check_capabilities, parse_chat
from ..policies.content import check_content_type
from ..policies.limits import read_body
from ..runtime import Runtime, new_id, now
from ..serializers.chat import ChatForm, ChatStream, completion, stream_end
from ..serializers.presentation import Presentation
from .generation import Form, generate


async def create(runtime: Runtime, exchange: Exchange) -> None:
    """Run an agent and answer with a chat completion, streamed or plain."""
    check_content_type(exchange.request)
    body = await read_body(exchange.request, runtime.limits.body, runtime.deadlines.body)
    parsed = parse_chat(body)
    backend = runtime.backend(parsed.request.model)
    check_capabilities(parsed, backend.capabilities)
    chat = ChatForm(
        id=new_id("chatcmpl-"),
        created=now(),
        model=parsed.request.model,
        custom_tools=parsed.custom_tools,
        include_usage=parsed.include_usage,
    )
    form = Form(
        id=chat.id,
        presentation=partial(Presentation, runtime.visibility),
        stream=partial(ChatStream, chat),
        stream_end=partial(stream_end, chat),
        whole=partial(completion, chat),
    )
    await generate(runtime, exchange, backend, [parsed.request] * parsed.choices, form)
