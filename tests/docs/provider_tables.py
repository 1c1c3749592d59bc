"""Writes the tables of providers and of team file keys from the code that defines them.

python -m tests.docs.provider_tables        writes them into their page
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel

from openai_compat.providers import PROVIDERS
from openai_compat.providers.team_tables import AgentTable, MCPTable, ProviderTable, TeamTable
from tests.docs.served import ROOT

PAGE = ROOT / "docs" / "reference" / "providers.md"
BEGIN, END = "<!-- {} -->\n", "<!-- end -->"


def providers() -> Iterator[str]:
    yield "| type | key in | another URL in | base URL |"
    yield "|---|---|---|---|"
    for provider in PROVIDERS.values():
        keys = ", ".join([f"`{name}`" for name in provider.key_env])
        if not provider.needs_key:
            keys += ", if it needs one"
        url = f"`{provider.base_url}`" if provider.base_url else "the SDK's own"
        url = "`https://RESOURCE.openai.azure.com`" if provider.sdk == "azure" else url
        yield f"| `{provider.type}` | {keys} | `{provider.url_env}` | {url} |"


def keys(table: type[BaseModel]) -> Iterator[str]:
    yield "| key | |"
    yield "|---|---|"
    for name, field in table.model_fields.items():
        default = field.get_default(call_default_factory=True)
        told = f"; {default:g} by default" if isinstance(default, int | float) and default > 1 else ""
        yield f"| `{name}` | {field.description}{told} |"


TABLES = {
    "PROVIDERS": list(providers()),
    **{table.__name__: list(keys(table)) for table in (TeamTable, ProviderTable, AgentTable, MCPTable)},
}


def written(page: str) -> str:
    """The page with up-to-date tables."""
    for name, lines in TABLES.items():
        begin = BEGIN.format(name)
        assert begin in page, name
        body = "\n".join(lines) + "\n"
        page = re.sub(f"{begin}.*?{END}", lambda _, text=begin + "\n" + body + "\n" + END: text, page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
