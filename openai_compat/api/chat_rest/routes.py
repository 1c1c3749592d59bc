"""The routes of the chat REST API, below its prefix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ..openapi import asked as asked_of
from ..openapi import json as json_of
from ..routing import Operation, Route
from . import approve as approving
from . import catalog, completions, conversations, grants, messages
from .openapi import PREFIX

json, asked = partial(json_of, prefix=PREFIX), partial(asked_of, prefix=PREFIX)

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
                asked("Completion", "Piece"),
                body=json("CompletionsRequest"),
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
                json("QuickAnswer"),
                body=json("QuickRequest"),
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
                asked("Completion", "Piece"),
                body=json("CompletionsRequest"),
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
                json("ConversationList"),
                query=PAGE,
            ),
            "POST": Operation(
                conversations.create,
                "startConversation",
                "Create a conversation",
                json("ConversationAnswer"),
                body=json("NewConversation"),
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
                json("ConversationWithMessages"),
            ),
            "DELETE": Operation(conversations.delete, "removeConversation", "Delete a conversation", json("Done")),
        },
    ),
    Route(
        f"{ONE}/title",
        {
            "POST": Operation(
                conversations.rename,
                "renameConversation",
                "Rename a conversation",
                json("ConversationAnswer"),
                body=json("NewTitle"),
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
                json("ConversationAnswer"),
                body=json("ForkRequest"),
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
                {**json("ConversationExport"), "text/markdown": {"schema": {"type": "string"}}},
                query={"format": {"enum": ["json", "markdown"]}},
            )
        },
    ),
    Route(
        f"{ONE}/messages",
        {
            "GET": Operation(
                conversations.list_messages, "listMessages", "List the messages of a conversation", json("MessageList")
            ),
            "POST": Operation(
                messages.create,
                "sendMessage",
                "Send a message",
                asked("MessageAnswer", "Piece"),
                body=json("MessageRequest"),
            ),
        },
    ),
    Route(
        f"{ONE}/messages/{{message_id}}",
        {"DELETE": Operation(conversations.delete_message, "deleteMessage", "Delete a message", json("Done"))},
    ),
    Route(
        f"{ONE}/messages/with-tools",
        {
            "POST": Operation(
                messages.with_tools,
                "sendMessageWithTools",
                "Send a message to an agent with tools",
                asked("MessageAnswer", "Piece"),
                body=json("ToolMessageRequest"),
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
                asked(None, "AgenticEvent"),
                body=json("AgenticRequest"),
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
                json("ModelList"),
                query={"provider": {"type": "string"}},
            )
        },
    ),
    Route(
        "/providers",
        {"GET": Operation(catalog.list_providers, "listProviders", "List the providers", json("ProviderList"))},
    ),
    Route(
        "/providers/default",
        {
            "POST": Operation(
                catalog.choose,
                "setDefaultProvider",
                "Set the default provider",
                json("ProviderChanged"),
                body=json("DefaultProviderRequest"),
            )
        },
    ),
    Route(
        "/providers/{provider:path}/models",
        {
            "GET": Operation(
                catalog.list_offered, "listProviderModels", "List a provider's models", json("OfferedModels")
            )
        },
    ),
    Route(
        "/providers/{provider:path}/health",
        {"POST": Operation(catalog.check_health, "checkProvider", "Check a provider's health", json("ProviderHealth"))},
    ),
    Route(
        "/providers/{provider:path}/configure",
        {
            "POST": Operation(
                catalog.configure,
                "configureProvider",
                "Configure a provider",
                json("ProviderChanged"),
                body=json("ConfigureRequest"),
            )
        },
    ),
    Route("/tools", {"GET": Operation(catalog.list_tools, "listTools", "List the agents' tools", json("ToolList"))}),
    Route(
        "/tools/approve",
        {
            "POST": Operation(
                approving.approve,
                "decideApproval",
                "Decide about a tool call",
                asked("ApproveAnswer", "Piece"),
                body=json("ApproveRequest"),
                more={202: ("The decision is recorded, and the turn goes on", json("ApproveAnswer"))},
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
                json("ApprovalList"),
                query={"conversationId": {"type": "string"}},
            )
        },
    ),
    Route(
        "/grants",
        {"GET": Operation(grants.list_grants, "listGrants", "List always-allow grants", json("GrantList"))},
    ),
    Route(
        "/grants/{grant_id}",
        {"DELETE": Operation(grants.revoke, "revokeGrant", "Revoke a grant", json("Done"))},
    ),
)
