"""Stop sequences are found wherever the text is split into pieces."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from openai_compat.turns.stop_sequences import StopScanner

ALPHABET = st.text("ab\n\ud800", max_size=12)
SEQUENCES = st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=4)


def cut_at_first(text: str, sequences: list[str]) -> str:
    """Return the text before the first stop sequence, as met by a model that writes character by character."""
    for end in range(len(text) + 1):
        lengths = [len(sequence) for sequence in sequences if text[:end].endswith(sequence)]
        if lengths:
            return text[: end - max(lengths)]
    return text


def scan(pieces: list[str], sequences: list[str]) -> str:
    scanner = StopScanner(sequences)
    passed = "".join([scanner.feed(piece) for piece in pieces])
    return passed + scanner.flush()


@given(st.lists(ALPHABET, max_size=8), SEQUENCES)
@example(["ab", "a"], ["aba", "b"])
@example(["a", "b"], ["ab", "b"])
def test_the_text_ends_at_the_first_stop_sequence_however_it_is_split(pieces: list[str], sequences: list[str]) -> None:
    text = "".join(pieces)
    assert scan(pieces, sequences) == cut_at_first(text, sequences)
    assert scan([text], sequences) == scan(list(text), sequences)


@given(st.lists(ALPHABET, max_size=8), SEQUENCES)
def test_found_says_whether_there_was_one(pieces: list[str], sequences: list[str]) -> None:
    scanner = StopScanner(sequences)
    for piece in pieces:
        scanner.feed(piece)
    assert (scanner.found in sequences) == any(sequence in "".join(pieces) for sequence in sequences)


@given(st.lists(ALPHABET, max_size=8), SEQUENCES)
def test_no_more_is_held_back_than_could_still_become_a_stop_sequence(pieces: list[str], sequences: list[str]) -> None:
    scanner = StopScanner(sequences)
    passed = ""
    for piece in pieces:
        passed += scanner.feed(piece)
    held = scanner.flush()
    assert held == "" or any(sequence.startswith(held) and sequence != held for sequence in sequences)


def test_nothing_comes_after_a_stop_sequence() -> None:
    scanner = StopScanner(["END"])
    assert [scanner.feed("one E"), scanner.feed("ND two"), scanner.feed("three"), scanner.flush()] == [
        "one ",
        "",
        "",
        "",
    ]
    assert scanner.found == "END"
