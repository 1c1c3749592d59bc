"""Internals of `openai_compat_adapters.oauth`."""
