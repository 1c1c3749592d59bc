from openai_compat.backends.anthropic import AnthropicBackend

agent = AnthropicBackend("claude-sonnet-5", system="Answer in one sentence.")  # reads the key from ANTHROPIC_API_KEY
