"""Requests of the Responses API."""
