"""Ollama's API on the wire: parses requests and serializes responses."""
