"""Frames of the chat WebSocket: types, parser, serializer."""
