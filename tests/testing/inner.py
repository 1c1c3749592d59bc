"""Runs the conformance suite in a separate pytest run, in this process, and returns the outcome."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

ARGUMENTS = (
    "--disable-plugin-autoload",
    *("-p", "openai_compat_adapters.pytest_plugin"),
    *("-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:faulthandler", "-p", "no:logging"),
    *("-c", "/dev/null", "--rootdir", "/", "-W", "error"),
)


@dataclass(eq=False)
class Outcome:
    """Names of checks by outcome; failures with their message, skips with their reason."""

    passed: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    sections: dict[str, str] = field(default_factory=dict)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rpartition("::")[2]
        if report.failed and report.when == "call":
            self.failed[name] = str(report.longrepr)
            self.sections[name] = dict(report.sections).get("what it means", "")
        elif report.failed:
            self.errors.append(str(report.longrepr))
        elif report.skipped:
            self.skipped[name] = report.longrepr[2]
        elif report.when == "call":
            self.passed.add(name)

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(str(report.longrepr))


def conformance_of(target: str, *options: str) -> Outcome:
    """The outcome of `pytest --openai-compat target`."""
    outcome = Outcome()
    pytest.main([*ARGUMENTS, "--openai-compat", target, *options], plugins=[outcome])
    return outcome
