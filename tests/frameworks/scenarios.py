"""What is to work with every framework. The names are the rows of the table in docs/how-to/frameworks.md."""

from __future__ import annotations

SCENARIOS: dict[str, str] = {
    "one line": "handed over as it is, or as a function that makes it",
    "text": "text as it is made, with usage",
    "details": "what of the tokens is reasoning",
    "tools": "the agent's own tools, shown in chat and as items of a response",
    "reasoning": "reasoning",
    "history": "the whole conversation, with instructions",
    "pictures": "pictures",
    "errors": "errors, and nothing of their texts",
    "rate limits": "the model's 429 with Retry-After",
    "leaving": "a client that leaves stops the model and the tool",
    "approvals": "approvals, in chat and in the Responses API",
    "edited": "approval of changed arguments",
    "another message": "another message instead of a decision",
    "several approvals": "several approvals in one turn",
    "restart": "approval after a restart",
    "client tools": "tools that the client runs",
    "both tools": "own and client's tools in one turn",
    "tool names": "a client's tool by the name of an own one is refused",
    "structured output": "`response_format` with a schema",
    "parameters": "temperature, max_tokens, reasoning effort",
    "conversations": "conversations on the server, by id and by `previous_response_id`",
    "forks": "a response that is continued twice",
    "callers": "callers with the same conversation id do not meet",
    "failed turns": "a turn that failed leaves nothing",
    "agents in agents": "agents inside of tools are not heard",
    "their tokens": "the tokens of agents inside of tools are counted",
    "parallel": "eight at once",
    "conformance": "the conformance suite",
}
