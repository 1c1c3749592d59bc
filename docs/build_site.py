"""Builds the documentation into site/: `nox -s docs`, or `python docs/build_site.py` where Zensical is installed.

Around `zensical build --strict`, which ends with 1 for a dead link, anchor, snippet or object: a page that the navigation
lacks is an error too, and beside each page lies its Markdown, with an index of all in `llms.txt` and their text in
`llms-full.txt`, for models and those who ask them.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from repository_links import from_the_site

FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
INCLUDE = re.compile(r'^( *)--8<-- "([^"]+)"$', re.MULTILINE)
OBJECT = re.compile(r"^::: (\S+)(\n    .*)*$", re.MULTILINE)
TAG = re.compile(r"<[^>]+>")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


class Page(NamedTuple):
    """A page of the navigation."""

    group: str
    path: str
    title: str
    description: str
    text: str


def listed(entries: list[Any], group: str = "") -> Iterator[tuple[str, str]]:
    """Each page's path with the first heading that it is below."""
    for entry in entries:
        if isinstance(entry, str):
            yield group, entry
        else:
            for name, below in entry.items():
                yield from listed([below] if isinstance(below, str) else below, group or name)


def included(root: Path, text: str) -> str:
    """The text with the files that it includes."""
    return from_the_site(INCLUDE.sub(lambda found: (root / found[2]).read_text("utf-8").rstrip("\n"), text))


def read(root: Path, group: str, path: str) -> Page:
    text = (root / "docs" / path).read_text("utf-8")
    front = FRONT_MATTER.match(text)
    settings = yaml.safe_load(front[1]) if front else {}
    text = included(root, FRONT_MATTER.sub("", text)).strip()
    title, _, body = text.partition("\n")
    said = next((part for part in body.split("\n\n") if re.match(r"\s*(?!```)[\w\[`*]", part)), "")
    first = re.split(r"(?<=[.?]) (?=[A-Z`])", LINK.sub(r"\1", " ".join(said.split())), maxsplit=1)[0]
    return Page(group, path, title.removeprefix("# "), settings.get("description", first.rstrip(":")), text)


def whole(text: str, objects: Mapping[str, str]) -> str:
    """The text with what the reference says about the objects that it names."""
    return OBJECT.sub(lambda found: f"### `{found[1]}`\n\n{objects.get(found[1], '')}".rstrip() + "\n", text)


def described(site: Path) -> dict[str, str]:
    """What the built reference says about each object, by its name: the search has it as text already."""
    found = json.loads((site / "search.json").read_text("utf-8"))["items"]
    return {item["location"].partition("#")[2]: as_markdown(item["text"]) for item in found}


def as_markdown(text: str) -> str:
    text = (
        text.replace("<pre><code>", "```python\n").replace("</code></pre> ", "```\n\n").replace("</code></pre>", "```")
    )
    text = re.sub(r"</?code>", "`", text).replace("</p> ", "\n\n")
    return html.unescape(TAG.sub("", text)).strip()


def write_texts(site: Path, name: str, sentence: str, pages: list[Page]) -> None:
    objects = described(site)
    index, full, group = [f"# {name}", "", f"> {sentence}"], [f"# {name}"], None
    for page in pages:
        text = whole(page.text, objects)
        (site / page.path).parent.mkdir(parents=True, exist_ok=True)
        (site / page.path).write_text(text + "\n", "utf-8")
        if page.group != group:
            group = page.group
            index += ["", f"## {group}", ""]
        index.append(f"- [{page.title}]({page.path})" + (f": {page.description}" if page.description else ""))
        full.append(f"<!-- {page.path} -->\n\n{text}")
    (site / "llms.txt").write_text("\n".join(index) + "\n", "utf-8")
    (site / "llms-full.txt").write_text("\n\n".join(full) + "\n", "utf-8")


def describe(site: Path, sentence: str, pages: list[Page]) -> None:
    """Give each page a description of its own for those who find it: without front matter, its first sentence."""
    general = f'<meta name="description" content="{html.escape(sentence)}">'
    for page in pages:
        path = site / ("" if page.path == "index.md" else page.path.removesuffix(".md")) / "index.html"
        own = f'<meta name="description" content="{html.escape(page.description.replace("`", ""))}">'
        if page.description:
            path.write_text(path.read_text("utf-8").replace(general, own, 1), "utf-8")


def main(root: Path) -> int:
    config = yaml.safe_load((root / "mkdocs.yml").read_text("utf-8"))
    navigation = list(listed(config["nav"]))
    there = {str(path.relative_to(root / "docs")) for path in (root / "docs").rglob("*.md")}
    forgotten = there - {path for _, path in navigation}
    for path in sorted(forgotten):
        print(f"docs/{path} is not in the navigation of mkdocs.yml", file=sys.stderr)
    built = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=root, check=False)
    if forgotten or built.returncode:
        return 1
    pages = [read(root, *entry) for entry in navigation]
    write_texts(root / "site", config["site_name"], config["site_description"], pages)
    describe(root / "site", config["site_description"], pages)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
