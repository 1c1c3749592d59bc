"""Decisions as bytes: questions read, and answers written."""
