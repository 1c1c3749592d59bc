"""A failure that a tool tells the model about."""

from __future__ import annotations


class ToolError(Exception):
    """Raised by a tool with a text for the model, which may then try otherwise.

    ```python
    raise ToolError("There is no city of that name.")
    ```

    The text of any other exception is logged, and the model learns only that the tool failed.
    """
