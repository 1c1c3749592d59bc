"""The exception with which a tool reports a failure to the model."""

from __future__ import annotations


class ToolError(Exception):
    """Raised by a tool with a text for the model, which may then try something else.

    ```python
    raise ToolError("There is no city of that name.")
    ```

    The text of any other exception is logged, and the model only learns that the tool failed.
    """
