"""Serializes Response objects and the events of their streams."""
