"""Stores for all state: a port, and its engines in memory, on SQLite and on PostgreSQL."""
