"""The built documentation: it loads nothing external, its search finds common queries, and mistakes fail the build.

Runs in `nox -s docs`, which installs the build tools.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.docs.served import ROOT

pytestmark = [
    pytest.mark.skipif(find_spec("zensical") is None, reason="`nox -s docs` runs it: Zensical is not installed here"),
    pytest.mark.timeout(600),
]
BUILD = ROOT / "docs" / "build_site.py"
WORDS = {
    "a2a": "how-to/a2a",
    "agno": "how-to/agno",
    "anthropic": "reference/anthropic-messages",
    "api key": "how-to/keys",
    "approval": "how-to/approvals",
    "architecture": "explanation/architecture",
    "audit": "how-to/audit-log",
    "authentication": "how-to/authentication",
    "background": "how-to/background-and-resume",
    "azure": "how-to/providers",
    "backup": "how-to/backup",
    "benchmark": "explanation/benchmark",
    "changelog": "changelog",
    "claude code": "how-to/claude-code",
    "codex": "how-to/codex",
    "concurrency": "how-to/concurrency",
    "conversation": "explanation/conversations",
    "cors": "reference/policies",
    "curl": "how-to/openai-sdk",
    "deploy": "how-to/deploy",
    "django": "how-to/mount",
    "docker": "how-to/deploy",
    "embeddings": "reference/http",
    "error handling": "how-to/errors",
    "doctor": "reference/cli",
    "faq": "faq",
    "fastapi": "how-to/mount",
    "flask": "how-to/flask",
    "function calling": "how-to/client-tools",
    "google adk": "how-to/google-adk",
    "grafana": "how-to/observe",
    "home assistant": "how-to/ollama-clients",
    "human in the loop": "how-to/approvals",
    "install": "index",
    "javascript": "how-to/openai-sdk",
    "jwt": "reference/authentication",
    "kubernetes": "how-to/deploy",
    "langchain": "how-to/langchain",
    "langgraph": "how-to/langgraph",
    "litellm": "comparison",
    "logging": "how-to/logs",
    "mcp": "how-to/tools",
    "metrics": "how-to/observe",
    "nginx": "how-to/deploy",
    "ollama": "how-to/providers",
    "open webui": "how-to/open-webui",
    "openai sdk": "how-to/openai-sdk",
    "openai agents sdk": "how-to/openai-agents",
    "opentelemetry": "how-to/observe",
    "postgresql": "how-to/state-postgresql",
    "pydantic ai": "how-to/pydantic-ai",
    "quickstart": "tutorial",
    "rate limit": "reference/policies",
    "reasoning": "how-to/progress",
    "release notes": "changelog",
    "responses api": "how-to/responses",
    "retry": "explanation/run-once",
    "smolagents": "how-to/smolagents",
    "sandbox": "how-to/tools",
    "sqlite": "how-to/state-sqlite",
    "streaming": "faq",
    "systemd": "how-to/deploy",
    "terminal": "how-to/terminal",
    "testing": "how-to/testing",
    "token usage": "how-to/progress",
    "troubleshooting": "troubleshooting",
    "vercel": "how-to/ai-sdk",
    "webhook": "how-to/webhooks",
    "websocket": "how-to/websocket",
}
"""Search queries, each with a page that must be among the first results."""
SEEN = 5
FAULTS = {
    "a page that is not there": ("other.md", "[x](nothing.md)"),
    "a heading that is not there": ("other.md", "[x](index.md#nothing)"),
    "an object that is not there": ("other.md", "::: thing.Nothing"),
    "a file that is not there": ("other.md", '--8<-- "nothing.py"'),
    "a reference to nothing": ("other.md", "[x][thing.Nothing]"),
    "a page outside the navigation": ("forgotten.md", "# Forgotten"),
}


@pytest.fixture(scope="module")
def site() -> Path:
    """The whole documentation, built once for all tests."""
    done = build(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "site"


def build(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, BUILD, root], cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of two pages, built with the settings of the real one."""
    root = tmp_path_factory.mktemp("small")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    (root / "mkdocs.yml").write_text(yaml.safe_dump(config | {"nav": ["index.md", "other.md"]}), "utf-8")
    (root / "adapters").mkdir()
    (root / "docs").mkdir()
    for name in ("site.css", "repository_links.py"):
        shutil.copy(ROOT / "docs" / name, root / "docs")
    (root / "thing.py").write_text('"""A module."""\n\nclass Thing:\n    """A thing."""\n', "utf-8")
    (root / "docs" / "index.md").write_text("# First\n\n[x](other.md#second), [y][thing.Thing]\n", "utf-8")
    (root / "docs" / "other.md").write_text('# Second\n\n::: thing.Thing\n\n--8<-- "thing.py"\n', "utf-8")
    return root


def test_a_build_without_mistakes_is_none(small: Path) -> None:
    done = build(small)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mistake_ends_the_build(small: Path, tmp_path: Path, fault: str) -> None:
    root = shutil.copytree(small, tmp_path / "root", ignore=shutil.ignore_patterns("site", ".cache"))
    page, line = FAULTS[fault]
    with (root / "docs" / page).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")

    assert build(root).returncode == 1


class Loaded(HTMLParser):
    """URLs that a page loads on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.classes |= set((found.get("class") or "").split())
        links = [found.get("href")] if tag == "link" else []
        self.addresses += filter(None, [found.get("src"), found.get("srcset"), found.get("data"), *links])


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    for path in site.rglob("*.html"):
        page = Loaded()
        page.feed(path.read_text("utf-8"))
        assert [address for address in page.addresses if re.match(r"\w+:|//", address)] == [], path
        assert "mermaid" not in page.classes, "its script would come from a CDN"
    for path in site.rglob("*.css"):
        assert re.findall(r"url\([\"']?(?:https?:)?//|@import", path.read_text("utf-8")) == [], path


@pytest.mark.skipif(shutil.which("node") is None, reason="the search is JavaScript")
def test_people_find_what_they_look_for(site: Path) -> None:
    script = Path(__file__).with_name("search.mjs")
    done = subprocess.run(["node", script, site, *WORDS], capture_output=True, check=True)
    found = {words: _pages(places) for words, places in json.loads(done.stdout).items()}

    assert {words: pages for words, pages in found.items() if WORDS[words] not in pages[:SEEN]} == {}


def _pages(places: list[str]) -> list[str]:
    """Each page once, in order of appearance."""
    return list(dict.fromkeys(place.partition("#")[0].strip("/") or "index" for place in places))


def test_the_changelog_is_a_page_whose_links_lead_to_others(site: Path) -> None:
    """The build checks the links of pages, but not those of included files."""
    page = (site / "changelog" / "index.html").read_text("utf-8")
    article = page[page.index("<article") : page.index("</article>")]
    places = [link.partition("#") for link in re.findall(r'href="(\.\./[^"]*)"', article)]

    assert "Semantic Versioning" in article
    assert len(places) > 20
    for path, _, anchor in places:
        target = (site / "changelog" / path / "index.html").read_text("utf-8")
        assert not anchor or f'id="{anchor}"' in target, f"{path}#{anchor}"


def test_models_are_given_every_page_as_text(site: Path) -> None:
    index = (site / "llms.txt").read_text("utf-8")
    listed = re.findall(r"^- \[.+\]\((.+?)\)", index, re.MULTILINE)

    assert index.startswith("# openai-compat\n\n> Serve any Python agent")
    assert {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")} == set(listed)
    for path in listed:
        assert (site / path).read_text("utf-8").startswith("# ")
        assert "--8<--" not in (site / path).read_text("utf-8")
    assert "def agent(prompt: str)" in (site / "llms-full.txt").read_text("utf-8")


def test_each_page_says_what_it_is_about(site: Path) -> None:
    said = [
        description
        for path in site.rglob("index.html")
        for description in re.findall(r'<meta name="description" content="(.*?)">', path.read_text("utf-8"))
    ]

    assert len(said) > 90
    assert len(set(said)) > 0.95 * len(said)


def test_every_page_but_the_first_can_be_read_on_from(site: Path) -> None:
    pages = [path for path in site.rglob("index.html") if path.parent != site]

    assert [path for path in pages if 'rel="prev"' not in path.read_text("utf-8")] == []


def test_long_signatures_have_a_line_for_each_parameter(site: Path) -> None:
    page = re.sub(r"<[^>]+>", "", (site / "reference/server/index.html").read_text("utf-8"))

    assert re.search(r"^Server\($", page, re.MULTILINE)
    assert re.search(r"^    limits: Limits = Limits\(\),$", page, re.MULTILINE)
