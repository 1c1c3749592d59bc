"""Runs `openai-compat doctor`, which prints one line per check."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from .doctor_checks import Finding, check_machine
from .doctor_url import check_server

MARKS = {"ok": ("ok   ", "green"), "note": ("note ", "yellow"), "wrong": ("WRONG", "red")}


def run(
    targets: tuple[str, ...],
    *,
    listen: tuple[str, int],
    store: str | None,
    api_key_env: str | None,
    url: str | None,
    api_key: str | None,
    message: str | None,
    as_json: bool,
) -> int:
    """Run the checks, print the findings, and return the exit code: 1 if something is wrong."""
    checks: list[Finding] = []
    for check in (
        check_machine(targets, listen, store, api_key_env) if url is None else check_server(url, api_key, message)
    ):
        checks.append(check)
        if not as_json:
            mark, color = MARKS[check.status]
            click.echo(f"{click.style(mark, fg=color)}  {check.name:9}  {' '.join(check.text.split())}")
    good = all([check.status != "wrong" for check in checks])
    if as_json:
        click.echo(json.dumps({"ok": good, "checks": [asdict(check) for check in checks]}, indent=2))
    return 0 if good else 1
