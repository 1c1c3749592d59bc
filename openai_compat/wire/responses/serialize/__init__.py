"""Responses and their streams."""
