"""Adapts what people hand over (functions, generators, objects) to the backend port, and wraps backends."""
