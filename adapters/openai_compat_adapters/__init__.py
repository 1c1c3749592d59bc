"""Thin adapters: Starlette (any ASGI server), WSGI, an in-process client, and the command line.

The public names are those in the `__all__` of each module; a module without one may change.
"""
