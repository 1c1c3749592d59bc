"""The reference of the providers and of team files matches the code."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import pytest

from openai_compat import providers
from openai_compat.providers import Fallback, Providers, ProviderSettings, ProviderType, fallback
from tests.docs.provider_tables import PAGE, TABLES, written
from tests.docs.served import ROOT
from tests.docs.test_reference import described, shown

TEXT = PAGE.read_text("utf-8")


def test_the_tables_are_those_of_the_code() -> None:
    assert written(TEXT) == TEXT, "write the page with `python -m tests.docs.provider_tables`"


@pytest.mark.parametrize("table", TABLES)
def test_every_row_says_something(table: str) -> None:
    for row in TABLES[table][2:]:
        assert all([cell.strip() not in ("", "None") for cell in row.strip("|").split("|")]), row


def test_every_public_name_has_an_entry() -> None:
    assert {f"openai_compat.providers.{name}" for name in providers.__all__} <= shown()


@pytest.mark.parametrize("settings", [ProviderSettings, ProviderType])
def test_every_setting_is_described(settings: Any) -> None:
    fields = {field.name for field in dataclasses.fields(settings)} - {"api_key"}  # described in the first line

    assert described(settings, "Attributes") == fields


@pytest.mark.parametrize("kind", [Providers, Fallback])
def test_every_argument_is_described(kind: Any) -> None:
    assert described(kind, "Args") == set(inspect.signature(kind).parameters)


def test_the_reasons_of_a_fallback_are_in_their_table() -> None:
    rows = re.findall(r"^\| [^|]+ \| `(\w+)` \|$", TEXT.partition("## Fallback")[2], re.MULTILINE)

    assert set(rows) == fallback.UPSTREAM_CODES | {"rate_limit_exceeded"}


def test_the_how_to_names_every_provider() -> None:
    page = (ROOT / "docs" / "how-to" / "providers.md").read_text("utf-8").lower()

    assert [name for name in providers.PROVIDERS if name not in page] == []
