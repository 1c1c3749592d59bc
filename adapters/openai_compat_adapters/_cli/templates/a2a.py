from openai_compat.backends.a2a import A2ABackend

agent = A2ABackend("https://travel.example")  # below it is /.well-known/agent-card.json
