"""The ids of a response and of its items. An item's id tells the response it belongs to: references need no index."""

from __future__ import annotations

from ...state.ids import new_id

DIGITS = 32


class ResponseIds:
    """Called with a prefix, gives the next item's id."""

    def __init__(self) -> None:
        self.response = new_id("resp_")
        self._count = 0

    def __call__(self, prefix: str) -> str:
        """`prefix`, the response's own digits, a number."""
        self._count += 1
        return f"{prefix}{self.response.removeprefix('resp_')}{self._count:04x}"


def response_of(item: str) -> str:
    """The id of the response that an item of this id belongs to, if it is one of ours."""
    return "resp_" + item.rpartition("_")[2][:DIGITS]
