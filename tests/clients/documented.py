"""Commands and programs from the documentation of three agent systems, with the answers that it shows.

Claude Ops ("Mobile Chat"), docker-agent ("Chat Server") and NodeTool ("Chat API") each serve an agent to OpenAI's
clients; profClaw has a chat API of its own. Users of an agent that moves here keep their commands: only host, port, key and
model may change.
"""

from __future__ import annotations

CLAUDE_OPS_STREAMING = """\
curl -N http://localhost:8080/v1/chat/completions \\
  -H "Authorization: Bearer your-secret-key-here" \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "claude-ops",
    "stream": true,
    "messages": [{"role": "user", "content": "What services are currently unhealthy?"}]
  }'
"""

CLAUDE_OPS_SYNCHRONOUS = """\
curl http://localhost:8080/v1/chat/completions \\
  -H "Authorization: Bearer your-secret-key-here" \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "claude-ops",
    "stream": false,
    "messages": [{"role": "user", "content": "Restart the nginx container on ie01"}]
  }'
"""

CLAUDE_OPS_BODY = """\
{
  "model": "claude-ops",
  "stream": true,
  "messages": [
    {"role": "user", "content": "Check the health of all services"}
  ]
}
"""

CLAUDE_OPS_STREAM = """\
data: {"id":"chatcmpl-...","object":"chat.completion.chunk","model":"claude-ops",\
"choices":[{"index":0,"delta":{"role":"assistant"}}]}

data: {"id":"chatcmpl-...","object":"chat.completion.chunk","model":"claude-ops",\
"choices":[{"index":0,"delta":{"content":"Checking all services..."}}]}

data: {"id":"chatcmpl-...","object":"chat.completion.chunk","model":"claude-ops",\
"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: [DONE]

"""

CLAUDE_OPS_ANSWER = """\
{
  "id": "chatcmpl-...",
  "object": "chat.completion",
  "model": "claude-ops",
  "choices": [{
    "index": 0,
    "message": {"role": "assistant", "content": "All services are healthy..."},
    "finish_reason": "stop"
  }],
  "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
}
"""

CLAUDE_OPS_MODELS = """\
{
  "object": "list",
  "data": [{"id": "claude-ops", "object": "model", "owned_by": "claude-ops"}]
}
"""

CLAUDE_OPS_ERRORS = {
    (401, "invalid_api_key"): "Missing or wrong Bearer token",
    (400, "invalid_request"): "Malformed JSON or no user message",
    (429, "rate_limit_exceeded"): "A session is already running — try again shortly",
    (503, "chat_endpoint_disabled"): "`CLAUDEOPS_CHAT_API_KEY` is not set",
}

DOCKER_AGENT_MODELS = "curl http://127.0.0.1:8083/v1/models"

DOCKER_AGENT_CHAT = """\
curl http://127.0.0.1:8083/v1/chat/completions \\
    -H 'Content-Type: application/json' \\
    -d '{
      "model": "root",
      "messages": [{"role": "user", "content": "Hello!"}]
    }'
"""

DOCKER_AGENT_STREAMING = """\
curl -N http://127.0.0.1:8083/v1/chat/completions \\
    -H 'Content-Type: application/json' \\
    -d '{
      "model": "root",
      "stream": true,
      "messages": [{"role": "user", "content": "Stream a poem"}]
    }'
"""

DOCKER_AGENT_MODELS_ANSWER = """\
{"object":"list","data":[{"id":"root","object":"model","owned_by":"docker-agent"}]}
"""

DOCKER_AGENT_REMEMBER = """\
curl http://127.0.0.1:8083/v1/chat/completions \\
    -H 'Content-Type: application/json' \\
    -H 'X-Conversation-Id: my-thread-1' \\
    -d '{
      "model": "root",
      "messages": [{"role": "user", "content": "Remember my name is Alice"}]
    }'
"""

DOCKER_AGENT_RECALL = """\
curl http://127.0.0.1:8083/v1/chat/completions \\
    -H 'Content-Type: application/json' \\
    -H 'X-Conversation-Id: my-thread-1' \\
    -d '{
      "model": "root",
      "messages": [{"role": "user", "content": "What is my name?"}]
    }'
"""

DOCKER_AGENT_PYTHON = """\
from openai import OpenAI

client = OpenAI(
    base_url="http://127.0.0.1:8083/v1",
    api_key="not-needed-when-no-api-key-flag",  # required by the SDK, ignored if no auth
)

resp = client.chat.completions.create(
    model="root",
    messages=[{"role": "user", "content": "Hello!"}],
)
print(resp.choices[0].message.content)
"""

NODETOOL_PYTHON = """\
import openai

client = openai.OpenAI(
    api_key="YOUR_TOKEN",
    base_url="http://localhost:8000/v1"
)

response = client.chat.completions.create(
    model="gpt-4",
    messages=[
        {"role": "user", "content": "Hello, how are you?"}
    ],
    stream=True
)

for chunk in response:
    if chunk.choices[0].delta.content is not None:
        print(chunk.choices[0].delta.content, end="")
"""

NODETOOL_MODELS = """\
curl http://localhost:8000/v1/models \\
  -H "Authorization: Bearer YOUR_TOKEN"
"""

NODETOOL_BODY = """\
{
  "model": "gpt-4",
  "messages": [
    {"role": "user", "content": "Hello, how are you?"}
  ],
  "stream": true
}
"""

PROFCLAW_COMPLETIONS = """\
curl -X POST http://localhost:3000/api/chat/completions \\
  -H "Content-Type: application/json" \\
  --cookie "profclaw_session=<token>" \\
  -d '{
    "messages": [{"role": "user", "content": "Explain async/await in TypeScript"}],
    "model": "claude-sonnet-4-6",
    "temperature": 0.7
  }'
"""

PROFCLAW_COMPLETION = """\
{
  "id": "resp_abc123",
  "provider": "anthropic",
  "model": "claude-sonnet-4-6",
  "message": { "role": "assistant", "content": "Async/await is..." },
  "finishReason": "stop",
  "usage": { "promptTokens": 42, "completionTokens": 150, "totalTokens": 192 },
  "duration": 1234
}
"""

PROFCLAW_QUICK = """\
curl -X POST http://localhost:3000/api/chat/quick \\
  -H "Content-Type: application/json" \\
  -d '{"prompt": "What is 2+2?"}'
"""

PROFCLAW_SMART = """\
curl -X POST http://localhost:3000/api/chat/smart \\
  -d '{"messages": [...], "taskId": "task_01", "presetId": "profclaw-assistant"}'
"""

PROFCLAW_LIST = "GET /api/chat/conversations?limit=20&offset=0&taskId=task_01"

PROFCLAW_CREATE = """\
{ "title": "Bug fix session", "presetId": "code-review", "taskId": "task_01" }
"""

PROFCLAW_MESSAGE = """\
{ "content": "What should I fix first?", "model": "gpt-4o" }
"""

PROFCLAW_WITH_TOOLS = """\
{
  "content": "Read the README and summarize it",
  "enableTools": true,
  "securityMode": "ask"
}
"""

PROFCLAW_MODES = "deny | sandbox | allowlist | ask | full"

PROFCLAW_CATALOG = """\
GET /api/chat/models                       # All models across providers
GET /api/chat/models?provider=anthropic    # Models for one provider
GET /api/chat/providers                    # Provider status + health
GET /api/chat/providers/:type/models       # Dynamic model discovery (Ollama, OpenRouter)
POST /api/chat/providers/:type/configure   # Configure a provider
POST /api/chat/providers/:type/health      # Check provider health
POST /api/chat/providers/default           # Set default provider
"""

PROFCLAW_APPROVE = """\
{
  "conversationId": "conv_01",
  "approvalId": "approval_01",
  "decision": "allow-once"
}
"""

PROFCLAW_DECISIONS = "allow-once | allow-always | deny"
