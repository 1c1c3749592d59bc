"""What `openai_compat_adapters.oauth` is made of."""
