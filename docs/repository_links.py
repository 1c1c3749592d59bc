"""A file that is written for the repository, such as CHANGELOG.md, as a page of the site: its links are below docs/ there.

An extension of Python-Markdown, which both builders know; `mkdocs.yml` names it.
"""

from __future__ import annotations

from typing import Any

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

AFTER_SNIPPETS = 31
"""Theirs is 32, and the greatest comes first."""


def from_the_site(text: str) -> str:
    """Markdown with the links that it has from within docs/."""
    return text.replace("](docs/", "](")


class _SiteLinks(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        return [from_the_site(line) for line in lines]


class _RepositoryLinks(Extension):
    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802  (Python-Markdown's name)
        md.preprocessors.register(_SiteLinks(md), "repository_links", AFTER_SNIPPETS)


def makeExtension(**settings: Any) -> Extension:  # noqa: N802  (the same)
    return _RepositoryLinks(**settings)
