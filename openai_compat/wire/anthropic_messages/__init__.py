"""Anthropic's Messages API: requests to typed messages, events to its blocks."""
