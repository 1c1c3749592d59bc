"""Parses requests of the Responses API."""
