"""Ollama's API as bytes: requests read, and answers written."""
