"""Thin adapters: Starlette (any ASGI server), WSGI, an in-process client, and the command line."""
