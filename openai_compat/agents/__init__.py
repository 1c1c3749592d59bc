"""Adapts user objects (functions, generators, objects with `run`) to the backend port, and wraps backends."""
