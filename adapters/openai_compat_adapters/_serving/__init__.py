"""Subclasses of uvicorn's protocols and server, and the parent of its workers.

`tests/adapters/test_serving_contract.py` names all of uvicorn that they override or touch.
"""
