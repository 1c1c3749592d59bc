"""The routes of the chat REST API, below its prefix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from .. import openapi
from ..routing import Operation, Route
from . import approve as approving
from . import catalog, completions, conversations, grants, messages
from .openapi import PREFIX

json_content = partial(openapi.json_content, prefix=PREFIX)
json_or_events = partial(openapi.json_or_events, prefix=PREFIX)

PAGE: Mapping[str, Any] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
    "offset": {"type": "integer", "minimum": 0, "maximum": 1_000_000_000},
    "cursor": {"type": "string"},
    "taskId": {"type": "string"},
    "ticketId": {"type": "string"},
    "projectId": {"type": "string"},
    "presetId": {"type": "string"},
}
ONE = "/conversations/{conversation_id:path}"

ROUTES: Sequence[Route] = (
    Route(
        "/completions",
        {
            "POST": Operation(
                completions.create,
                "createChatRestCompletion",
                "Answer messages",
                json_or_events("Completion", "Piece"),
                body=json_content("CompletionsRequest"),
            )
        },
    ),
    Route(
        "/quick",
        {
            "POST": Operation(
                completions.quick,
                "askQuickly",
                "Answer one prompt",
                json_content("QuickAnswer"),
                body=json_content("QuickRequest"),
            )
        },
    ),
    Route(
        "/smart",
        {
            "POST": Operation(
                completions.smart,
                "askWithContext",
                "Answer messages, and return the ids of their context",
                json_or_events("Completion", "Piece"),
                body=json_content("CompletionsRequest"),
            )
        },
    ),
    Route(
        "/conversations",
        {
            "GET": Operation(
                conversations.list_conversations,
                "listConversations",
                "List conversations",
                json_content("ConversationList"),
                query=PAGE,
            ),
            "POST": Operation(
                conversations.create,
                "startConversation",
                "Create a conversation",
                json_content("ConversationAnswer"),
                body=json_content("NewConversation"),
                status=201,
            ),
        },
    ),
    Route(
        ONE,
        {
            "GET": Operation(
                conversations.get,
                "readConversation",
                "Get a conversation with its messages",
                json_content("ConversationWithMessages"),
            ),
            "DELETE": Operation(
                conversations.delete, "removeConversation", "Delete a conversation", json_content("Done")
            ),
        },
    ),
    Route(
        f"{ONE}/title",
        {
            "POST": Operation(
                conversations.rename,
                "renameConversation",
                "Rename a conversation",
                json_content("ConversationAnswer"),
                body=json_content("NewTitle"),
            )
        },
    ),
    Route(
        f"{ONE}/fork",
        {
            "POST": Operation(
                conversations.fork,
                "forkConversation",
                "Copy a conversation",
                json_content("ConversationAnswer"),
                body=json_content("ForkRequest"),
                status=201,
            )
        },
    ),
    Route(
        f"{ONE}/export",
        {
            "GET": Operation(
                conversations.export,
                "exportConversation",
                "Export a conversation",
                {**json_content("ConversationExport"), "text/markdown": {"schema": {"type": "string"}}},
                query={"format": {"enum": ["json", "markdown"]}},
            )
        },
    ),
    Route(
        f"{ONE}/messages",
        {
            "GET": Operation(
                conversations.list_messages,
                "listMessages",
                "List the messages of a conversation",
                json_content("MessageList"),
            ),
            "POST": Operation(
                messages.create,
                "sendMessage",
                "Send a message",
                json_or_events("MessageAnswer", "Piece"),
                body=json_content("MessageRequest"),
            ),
        },
    ),
    Route(
        f"{ONE}/messages/{{message_id}}",
        {"DELETE": Operation(conversations.delete_message, "deleteMessage", "Delete a message", json_content("Done"))},
    ),
    Route(
        f"{ONE}/messages/with-tools",
        {
            "POST": Operation(
                messages.with_tools,
                "sendMessageWithTools",
                "Send a message to an agent with tools",
                json_or_events("MessageAnswer", "Piece"),
                body=json_content("ToolMessageRequest"),
            )
        },
    ),
    Route(
        f"{ONE}/messages/agentic",
        {
            "POST": Operation(
                messages.agentic,
                "runAgent",
                "Run an agent, and stream each step",
                json_or_events(None, "AgenticEvent"),
                body=json_content("AgenticRequest"),
            )
        },
    ),
    Route(
        "/models",
        {
            "GET": Operation(
                catalog.list_models,
                "listChatModels",
                "List the models",
                json_content("ModelList"),
                query={"provider": {"type": "string"}},
            )
        },
    ),
    Route(
        "/providers",
        {"GET": Operation(catalog.list_providers, "listProviders", "List the providers", json_content("ProviderList"))},
    ),
    Route(
        "/providers/default",
        {
            "POST": Operation(
                catalog.choose,
                "setDefaultProvider",
                "Set the default provider",
                json_content("ProviderChanged"),
                body=json_content("DefaultProviderRequest"),
            )
        },
    ),
    Route(
        "/providers/{provider:path}/models",
        {
            "GET": Operation(
                catalog.list_provider_models,
                "listProviderModels",
                "List a provider's models",
                json_content("OfferedModels"),
            )
        },
    ),
    Route(
        "/providers/{provider:path}/health",
        {
            "POST": Operation(
                catalog.check_health, "checkProvider", "Check a provider's health", json_content("ProviderHealth")
            )
        },
    ),
    Route(
        "/providers/{provider:path}/configure",
        {
            "POST": Operation(
                catalog.configure,
                "configureProvider",
                "Configure a provider",
                json_content("ProviderChanged"),
                body=json_content("ConfigureRequest"),
            )
        },
    ),
    Route(
        "/tools",
        {"GET": Operation(catalog.list_tools, "listTools", "List the agents' tools", json_content("ToolList"))},
    ),
    Route(
        "/tools/approve",
        {
            "POST": Operation(
                approving.approve,
                "decideApproval",
                "Decide about a tool call",
                json_or_events("ApproveAnswer", "Piece"),
                body=json_content("ApproveRequest"),
                more={202: ("The decision is recorded, and the turn goes on", json_content("ApproveAnswer"))},
            )
        },
    ),
    Route(
        "/approvals",
        {
            "GET": Operation(
                approving.list_pending,
                "listApprovals",
                "List tool calls that wait for a decision",
                json_content("ApprovalList"),
                query={"conversationId": {"type": "string"}},
            )
        },
    ),
    Route(
        "/grants",
        {"GET": Operation(grants.list_grants, "listGrants", "List always-allow grants", json_content("GrantList"))},
    ),
    Route(
        "/grants/{grant_id}",
        {"DELETE": Operation(grants.revoke, "revokeGrant", "Revoke a grant", json_content("Done"))},
    ),
)
