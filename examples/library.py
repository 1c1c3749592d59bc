"""The tools of the librarian in openai-compat.toml."""

from openai_compat.tools import tool

SHELF = {"Dune": "Frank Herbert", "Emma": "Jane Austen"}


@tool(danger="safe")
def find_book(title: str) -> str:
    """Says who wrote a book, if the library has it."""
    return SHELF.get(title, "The library does not have it.")


def lend_book(title: str) -> str:
    """Lends a book to the user."""
    return f"'{title}' is lent until Friday."
