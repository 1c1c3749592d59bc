from openai_compat.backends.a2a import A2ABackend

agent = A2ABackend("https://travel.example")  # it serves /.well-known/agent-card.json
