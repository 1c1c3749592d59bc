"""Anthropic's Messages API: parses requests into typed messages, and serializes events as content blocks."""
