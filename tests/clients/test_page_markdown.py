"""The page's Markdown parser: pure functions, run in node on ordinary and on hostile texts."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import openai_compat
from tests.clients.programs import need
from tests.requirements import requirement

MODULE = (Path(openai_compat.__file__).parent / "page" / "markdown.js").as_uri()
SIZE = 80_000
MOST = 12
"""Largest allowed ratio of the work for a text to that for an eighth of it: linear work gives 8, quadratic 64."""

DELIMITERS = (
    *(
        "*",
        "_",
        "`",
        "~",
        "[",
        "]",
        "(",
        ")",
        "<",
        ">",
        "#",
        "-",
        "+",
        "|",
        "\\",
        "!",
        "&",
        "$",
        "1.",
        "h",
        " ",
        "\t",
        "\n",
    ),
    *("_a ", "*a ", "**a ", "***a", "a***", "*a**b", "a*_", "_*", "~~a", "`a``", "[a](", "](", "![", "[[](http://a)"),
    *(
        '[a](http://b "',
        "[x](a ",
        "[a](http://b(",
        "https://a ",
        "http://",
        "<http://",
        "\\*",
        "> > ",
        "- - ",
        "- [ ] ",
    ),
    *(
        "> ",
        "# ",
        "- a\n",
        "1. a\n",
        "  - a\n",
        "|a|\n",
        "|a|b|\n|-|-|\n",
        "|-",
        ":-:|",
        "```\n",
        "~~~\n",
        "---\n",
        " \n",
    ),
    *("*\n", "`\n", ">\n", "\\\n", "é", "\U0001f600"),
)


def node(script: str, *values: Any) -> Any:
    """The value of a script, which may use `pieces`, `inline` and the values as `given`."""
    need("node")
    head = f"import {{ inline, pieces }} from {json.dumps(MODULE)}; const given = {json.dumps(values)};"
    command = ["node", "--input-type=module", "-e", f"{head} console.log(JSON.stringify({script}))"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def em(*children: Any) -> Any:
    return {"tag": "em", "children": list(children)}


def strong(*children: Any) -> Any:
    return {"tag": "strong", "children": list(children)}


def link(href: str, *children: Any) -> Any:
    return {"tag": "a", "href": href, "children": list(children)}


def code(text: str) -> Any:
    return {"tag": "code", "text": text}


LINES: dict[str, list[Any]] = {
    "a **b *c* d** e": ["a ", strong("b ", em("c"), " d"), " e"],
    "***x***": [strong(em("x"))],
    "snake_case_name and __init__": ["snake_case_name and ", strong("init")],
    "2 * 3 * 4": ["2 * 3 * 4"],
    "List<String> & <b>": ["List<String> & <b>"],
    "``c`d`` `e": [code("c`d"), " `e"],
    "`**a**` \\*b\\*": [code("**a**"), " *b*"],
    "~~s~~ ~t~": [{"tag": "s", "children": ["s"]}, " ~t~"],
    "a\nb": ["a", {"tag": "br"}, "b"],
    "[x](https://a.b/c_(d) 't')": ["[x](", link("https://a.b/c_(d)", "https://a.b/c_(d)"), " 't')"],
    '[x](https://a.b/c_(d) "t")': [link("https://a.b/c_(d)", "x")],
    "![p](http://e/f)": [link("http://e/f", "picture: ", "p")],
    "see https://a.b/c. <https://q.r>": [
        "see ",
        link("https://a.b/c", "https://a.b/c"),
        ". ",
        link("https://q.r/", "https://q.r"),
    ],
    "[x](javascript:alert(1))": ["[x](javascript:alert(1))"],
    "[x](JAVASCRIPT:alert(1)) [x](/y)": ["[x](JAVASCRIPT:alert(1)) [x](/y)"],
    "[a [b](http://x/)](javascript:y)": ["[a ", link("http://x/", "b"), "](javascript:y)"],
}


@requirement("page.text")
def test_what_is_in_a_line_is_read_as_people_mean_it() -> None:
    assert dict(zip(LINES, node("given.map(inline)", *LINES), strict=True)) == LINES


@requirement("page.text")
def test_blocks_are_found_where_they_begin_and_end() -> None:
    text = "# One\ntext\nmore\n- a\n  - b\n\n  c\n- d\nlazy\n\n2) x\n> q\n\n| a | b |\n|---|--:|\n| 1 \\| 2 | 3 |\n***\n```py\n# x\n```\n~~~\nopen"
    found = node("[...pieces(given[0])]", text)
    assert [(one["kind"], one.get("text")) for one in found] == [
        ("heading", "One"),
        ("paragraph", "text\nmore"),
        ("item", "a\n- b\n\nc"),
        ("item", "d\nlazy"),
        ("item", "x"),
        ("quote", "q"),
        ("table", None),
        ("row", None),
        ("rule", None),
        ("code", "# x"),
        ("code", "open"),
    ]
    assert (found[6]["align"], found[7]["cells"]) == (["", "end"], ["1 | 2", "3"])
    assert [one["start"] for one in found[1:]] == sorted([one["start"] for one in found[1:]])


@requirement("page.text")
def test_a_text_that_grows_is_read_on_from_its_last_piece() -> None:
    text = "a\n\n- b\n- c\n\n| d |\n|---|\n| e |\n| f |\n\n```\ng\n```\nh"
    script = """(() => {
        const whole = [...pieces(given[0])];
        return whole.map(({ start, kind }, n) => {
            const table = whole.slice(0, n).findLast((piece) => piece.kind === 'table');
            const goesOn = kind === 'row' ? table.head.length : 0;
            return JSON.stringify([...pieces(given[0], start, goesOn)]) === JSON.stringify(whole.slice(n));
        });
    })()"""
    assert node(script, text) == [True] * 8


WORK = """
    const { Session } = await import('node:inspector/promises');
    const session = new Session();
    session.connect();
    await session.post('Profiler.enable');
    await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    let seen = 0; // characters that the language's own functions have looked at
    const counted = (prototype, name, cost) => {
        const own = prototype[name];
        prototype[name] = function (...given) {
            const result = own.apply(this, given);
            seen += cost(this, result, given[1] ?? 0);
            return result;
        };
    };
    counted(String.prototype, 'indexOf', (text, found, from) => (found < 0 ? text.length : found) - from);
    for (const name of ['trim', 'trimStart', 'replace', 'replaceAll', 'split', 'includes', 'startsWith']) {
        counted(String.prototype, name, (text) => text.length);
    }
    counted(RegExp.prototype, 'exec', (pattern, found) => found?.[0].length ?? 1);
    const read = (text, depth) => {
        for (const piece of pieces(text, 0, 0, depth)) {
            if (piece.kind === 'quote' || piece.kind === 'item') read(piece.text, depth + 1);
            else if (piece.kind !== 'code') [piece.text ?? '', ...(piece.cells ?? piece.head ?? [])].forEach(inline);
        }
    };
    const work = async (text) => {
        await session.post('Profiler.takePreciseCoverage'); // what was counted until now
        seen = 0;
        read(text, 0);
        const { result } = await session.post('Profiler.takePreciseCoverage');
        const here = result.filter(({ url }) => url.endsWith('markdown.js')).flatMap(({ functions }) => functions);
        return here.flatMap(({ ranges }) => ranges).reduce((sum, { count }) => sum + count, seen);
    };
"""
"""Counts executed steps and inspected characters, which are the same on every machine. The work inside one regular expression is
not counted: each has a limit on how far it may backtrack.
"""


@requirement("page.fast")
def test_the_work_of_reading_is_in_proportion_to_the_text() -> None:
    script = f"""await (async () => {{
        {WORK}
        const ratios = [];
        for (const unit of given) {{
            const part = await work(unit.repeat({SIZE} / 8 / unit.length));
            ratios.push(await work(unit.repeat({SIZE} / unit.length)) / part);
        }}
        return ratios;
    }})()"""
    ratios = dict(zip(DELIMITERS, node(script, *DELIMITERS), strict=True))
    assert {unit: ratio for unit, ratio in ratios.items() if ratio > MOST} == {}


MARKS = (*"*_`~[]()!><#-+|\\&:h\n a", "1.")
STEPS = 50
"""Limit per character of a text, as counted by `WORK`: a mixture of three marks takes 36 at most."""
PARTS = 2000
"""Most parts of a paragraph; text after them is shown as written."""


@requirement("page.fast")
def test_no_mixture_of_two_marks_takes_long_or_becomes_many_parts() -> None:
    script = f"""await (async () => {{
        {WORK}
        const nodes = (parts) => parts.reduce((sum, {{ children }}) => sum + 1 + nodes(children ?? []), 0);
        const found = [];
        for (const unit of given) {{
            const text = unit.repeat(600 / unit.length);
            found.push([(await work(text)) / text.length, nodes(inline(unit.repeat(4400 / unit.length)))]);
        }}
        return found;
    }})()"""
    units = ["".join(pair) for pair in itertools.product(MARKS, repeat=2)]
    found = dict(zip(units, node(script, *units), strict=True))
    assert {unit: one for unit, one in found.items() if one[0] > STEPS or one[1] > PARTS + 1} == {}


@requirement("page.fast")
@pytest.mark.parametrize("opening", ["*a ", "[", "> ", "- "])
def test_nothing_is_nested_so_deep_that_it_cannot_be_shown(opening: str) -> None:
    closing = {"*a ": " b*", "[": "](http://x)"}.get(opening, "")
    script = """(() => {
        const deepest = (parts) => Math.max(0, ...parts.map((part) => part.children ? 1 + deepest(part.children) : 0));
        const blocks = (text, depth) => Math.max(depth, ...[...pieces(text, 0, 0, depth)].map((piece) =>
            piece.kind === 'quote' || piece.kind === 'item' ? blocks(piece.text, depth + 1) : depth));
        return [deepest(inline(given[0])), blocks(given[0], 0)];
    })()"""
    inner, outer = node(script, opening * 3000 + "x" + closing * 3000)
    assert inner <= 16
    assert outer <= 8
