"""The route table: OpenAI's API, the server's own paths, and which of them a server serves."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from . import conversations as conversations_api
from . import decisions, deployments, embeddings, files, health, models, openapi, resource_metadata
from .chat import completions as chat
from .chat import kept_conversations as conversations
from .chat import legacy_completions
from .chat import stored_completions as stored
from .openapi import FORM, json_content, json_or_events
from .responses import compact as compaction
from .responses import endpoint as responses
from .responses.websocket import connection as responses_socket
from .routing import Api, Operation, Route, Routes
from .services import Settings

LIST: Mapping[str, Any] = {
    "after": {"type": "string"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
    "order": {"enum": ["asc", "desc"]},
}
# OpenAI's own limits, larger for files than for all other lists.
FILES: Mapping[str, Any] = {
    **LIST,
    "limit": {"type": "integer", "minimum": 1, "maximum": 10_000},
    "purpose": {"type": "string"},
}
FOLLOW: Mapping[str, Any] = {
    "stream": {"type": "boolean"},
    "starting_after": {"type": "integer", "minimum": -1, "maximum": 999_999_999_999_999},
}
# Whatever type was uploaded: a file is never sent with a type that a browser would show.
BYTES: Mapping[str, Any] = {"application/octet-stream": {}}
ITEM: Mapping[str, Any] = {"application/json": {"type": "object"}}
STATUS: Mapping[str, Any] = {"application/json": {"type": "object", "required": ["status"]}}

V1 = (
    Route(
        "/chat/completions",
        {
            "POST": Operation(
                chat.create,
                "createChatCompletion",
                "Create a chat completion",
                json_or_events("ChatCompletion", "ChatCompletionChunk"),
                body=json_content("ChatCompletionRequest"),
            ),
            "GET": Operation(
                stored.list_completions,
                "listChatCompletions",
                "List stored chat completions",
                json_content("CompletionPage"),
                query={**LIST, "model": {"type": "string"}},
            ),
        },
    ),
    Route(
        "/chat/completions/{completion_id}",
        {
            "GET": Operation(
                stored.get_completion,
                "getChatCompletion",
                "Get a stored chat completion",
                json_content("ChatCompletion"),
            ),
            "POST": Operation(
                stored.update_completion,
                "updateChatCompletion",
                "Update the metadata of a stored chat completion",
                json_content("ChatCompletion"),
                body=json_content("MetadataUpdate"),
            ),
            "DELETE": Operation(
                stored.delete_completion,
                "deleteChatCompletion",
                "Delete a stored chat completion",
                json_content("Deleted"),
            ),
        },
    ),
    Route(
        "/chat/completions/{completion_id}/messages",
        {
            "GET": Operation(
                stored.list_messages,
                "getChatCompletionMessages",
                "List the messages that a chat completion was made from",
                json_content("MessagePage"),
                query=LIST,
            )
        },
    ),
    Route(
        # Clients choose the ids of conversations, which may contain slashes.
        "/chat/conversations/{conversation_id:path}",
        {
            "GET": Operation(
                conversations.get_conversation,
                "getChatConversation",
                "Get the messages of a conversation",
                json_content("KeptConversation"),
            ),
            "DELETE": Operation(
                conversations.delete_conversation,
                "deleteChatConversation",
                "Delete a conversation",
                json_content("Deleted"),
            ),
        },
    ),
    Route(
        "/completions",
        {
            "POST": Operation(
                legacy_completions.create,
                "createCompletion",
                "Create a text completion",
                json_or_events("TextCompletion", "TextCompletion"),
                body=json_content("CompletionRequest"),
            )
        },
    ),
    Route(
        "/conversations",
        {
            "POST": Operation(
                conversations_api.create,
                "createConversation",
                "Create a conversation",
                json_content("ConversationObject"),
                body=json_content("ConversationCreate"),
            )
        },
    ),
    Route(
        "/conversations/{conversation_id:path}",
        {
            "GET": Operation(
                conversations_api.retrieve, "getConversation", "Get a conversation", json_content("ConversationObject")
            ),
            "POST": Operation(
                conversations_api.update,
                "updateConversation",
                "Update the metadata of a conversation",
                json_content("ConversationObject"),
                body=json_content("MetadataUpdate"),
            ),
            "DELETE": Operation(
                conversations_api.delete,
                "deleteConversation",
                "Delete a conversation",
                json_content("DeletedConversation"),
            ),
        },
    ),
    Route(
        "/conversations/{conversation_id:path}/items",
        {
            "GET": Operation(
                conversations_api.list_items,
                "listConversationItems",
                "List the items of a conversation",
                json_content("ItemPage"),
                query=LIST,
            ),
            "POST": Operation(
                conversations_api.add_items,
                "createConversationItems",
                "Add items to a conversation",
                json_content("ItemPage"),
                body=json_content("ConversationItems"),
            ),
        },
    ),
    Route(
        "/conversations/{conversation_id:path}/items/{item_id:path}",
        {
            "GET": Operation(conversations_api.get_item, "getConversationItem", "Get an item of a conversation", ITEM),
            "DELETE": Operation(
                conversations_api.delete_item,
                "deleteConversationItem",
                "Delete an item of a conversation",
                json_content("ConversationObject"),
            ),
        },
    ),
    Route(
        "/decisions",
        {
            "POST": Operation(
                decisions.create,
                "createDecision",
                "Answer questions with probabilities",
                json_content("DecisionResult"),
                body=json_content("DecisionRequest"),
            )
        },
    ),
    Route(
        "/embeddings",
        {
            "POST": Operation(
                embeddings.create,
                "createEmbedding",
                "Create embeddings",
                json_content("EmbeddingList"),
                body=json_content("EmbeddingRequest"),
            )
        },
    ),
    Route(
        "/files",
        {
            "POST": Operation(files.create, "createFile", "Upload a file", json_content("File"), body=FORM),
            "GET": Operation(files.list_files, "listFiles", "List files", json_content("FilePage"), query=FILES),
        },
    ),
    Route(
        "/files/{file_id}",
        {
            "GET": Operation(files.retrieve, "retrieveFile", "Get the metadata of a file", json_content("File")),
            "DELETE": Operation(files.delete, "deleteFile", "Delete a file", json_content("DeletedFile")),
        },
    ),
    Route(
        "/files/{file_id}/content",
        {"GET": Operation(files.download, "downloadFile", "Download a file", BYTES)},
    ),
    Route(
        "/responses",
        {
            "POST": Operation(
                responses.create,
                "createResponse",
                "Create a response; GET with an upgrade to WebSocket does so too",
                json_or_events("Response", "ResponseStreamEvent"),
                body=json_content("ResponseRequest"),
            )
        },
        responses_socket.serve,
    ),
    Route(
        "/responses/compact",
        {
            "POST": Operation(
                compaction.compact,
                "compactResponse",
                "Compact a conversation",
                json_content("CompactedResponse"),
                body=json_content("CompactRequest"),
            )
        },
    ),
    Route(
        "/responses/input_tokens",
        {
            "POST": Operation(
                compaction.count_input_tokens,
                "countResponseInputTokens",
                "Count the input tokens of a request",
                json_content("InputTokens"),
                body=json_content("InputTokensRequest"),
            )
        },
    ),
    Route(
        "/responses/{response_id}",
        {
            "GET": Operation(
                responses.retrieve,
                "getResponse",
                "Get a response, or stream its events",
                json_or_events("Response", "ResponseStreamEvent"),
                query=FOLLOW,
            ),
            "DELETE": Operation(
                responses.delete, "deleteResponse", "Delete a response", json_content("DeletedResponse")
            ),
        },
    ),
    Route(
        "/responses/{response_id}/cancel",
        {"POST": Operation(responses.stop, "cancelResponse", "Cancel a background response", json_content("Response"))},
    ),
    Route(
        "/responses/{response_id}/input_items",
        {
            "GET": Operation(
                responses.list_input_items,
                "listInputItems",
                "List the input items of a response",
                json_content("InputItemPage"),
                query=LIST,
            )
        },
    ),
    Route(
        "/models",
        {"GET": Operation(models.list_models, "listModels", "List the models", json_content("ModelList"))},
        group="models",
    ),
    Route(
        "/models/{model:path}",
        {"GET": Operation(models.get_model, "retrieveModel", "Get a model", json_content("Model"))},
        group="models",
    ),
)
# Azure's SDK puts the model into the path. Not described: a generated client does not need a second way.
DEPLOYMENTS = (
    Route("/deployments/{model:path}/chat/completions", {"POST": Operation(deployments.chat)}, described=False),
    Route("/deployments/{model:path}/completions", {"POST": Operation(deployments.complete)}, described=False),
    Route("/deployments/{model:path}/embeddings", {"POST": Operation(deployments.embed)}, described=False),
)
SERVER_ROUTES = (
    Route(
        "/healthz",
        {"GET": Operation(health.healthz, "isAlive", "Check that the process is alive", STATUS)},
        aliases=("/health",),  # guidellm and others that come from vLLM look there
        open=True,
    ),
    Route(
        "/readyz",
        {"GET": Operation(health.readyz, "isReady", "Check that the server accepts new turns", STATUS)},
        open=True,
    ),
)


@functools.cache
def openai_api(bare_paths: bool) -> Api:
    """OpenAI's API, below `/v1` and where Azure's clients look for it."""
    prefixes = ("/openai/v1", "/openai", *([""] if bare_paths else []))
    return Api(name="openai", routes=[_with_prefix("/v1", route, prefixes) for route in (*V1, *DEPLOYMENTS)])


def _with_prefix(prefix: str, route: Route, others: Iterable[str]) -> Route:
    return replace(route, path=prefix + route.path, aliases=tuple([other + route.path for other in others]))


def routes(settings: Settings, apis: Iterable[Api], sockets: Iterable[Route], *, needs_key: bool) -> Routes:
    """All routes of a server with these settings, and the document that describes them. Raises ValueError."""
    served, chat_rest = [openai_api(settings.bare_paths)], settings.chat_rest
    if chat_rest is not None:
        from .chat_rest.routes import ROUTES as CHAT_REST  # noqa: PLC0415  (APIs are imported when they are served)

        below = [
            replace(_with_prefix(chat_rest.prefix, route, ()), cookie=bool(chat_rest.cookie)) for route in CHAT_REST
        ]
        served.append(Api(name="chat rest", routes=below, prefix=chat_rest.prefix))
    if settings.page:
        from .page import PAGE, ROOT  # noqa: PLC0415

        served += [PAGE, ROOT]
    served += apis
    found = [
        replace(route, api=api, open=route.open or route.group in settings.public, when=route.when or api.when)
        for api in served
        for route in api.routes
    ]
    found += [*SERVER_ROUTES, *sockets]
    if settings.resource is not None:
        found.append(resource_metadata.metadata_route(settings.resource))
    document = functools.partial(openapi.send_document, found, needs_key)
    description = Route("/openapi.json", {"GET": Operation(document)}, open=True, described=False)
    return Routes([*found, description])
