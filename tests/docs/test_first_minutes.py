"""The recorded first minutes: the typed commands print what is shown. Without the installation, which takes long."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.pictures.first_minutes import Recorder, first_steps
from tests.docs.served import ROOT


def test_what_is_typed_in_the_first_minutes_works(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, Path(sys.executable).parent)
    first_steps(recorder)
    recorded = (ROOT / "docs/img/first_minutes.txt").read_text("utf-8")

    def commands(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("$ ")]

    assert commands(recorder.text) == commands(recorded)[3:]
