"""The commands of `openai-compat`."""
