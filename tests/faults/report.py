"""A pytest plugin: which tests show which case of the fault matrix, and the matrix at the end.

`@pytest.mark.case(13)` says what a test shows; the fixture `injected` takes the number of faults that it
injected, where that is not one. Counts travel in the reports, so that they arrive from xdist's workers too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.matrix import BY_NUMBER, CASES, Case

GREEN, RED, NOT_HERE, NOT_RUN = "green", "RED", "not testable here", "not run"
SEED = 20261122
_BEGIN, _END = "<!-- matrix -->", "<!-- end of matrix -->"


@dataclass(slots=True)
class Shown:
    """What the tests of one case came to."""

    passed: int = 0
    failed: int = 0
    runs: int = 0
    skips: set[str] = field(default_factory=set)

    def outcome(self, case: Case) -> str:
        """One word, and the reason where there is one."""
        why = case.reason or "; ".join(sorted(self.skips))
        if self.failed:
            return RED
        if self.passed:
            return f"{GREEN} (in part: {why})" if why else GREEN
        return f"{NOT_HERE}: {why}" if why else NOT_RUN


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the printed matrix."""

    number: int
    fault: str
    by: str
    expected: str
    tests: int
    runs: int
    outcome: str


class Matrix:
    """Counts the reports of one session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._shown = {case.number: Shown() for case in CASES}

    @property
    def lines(self) -> Iterator[Line]:
        for case in CASES:
            shown = self._shown[case.number]
            tests = shown.passed + shown.failed
            yield Line(
                *(case.number, case.fault, case.by, case.expected),
                *(tests, shown.runs, shown.outcome(case)),
            )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed and report.when != "call":
            return
        told = dict(report.user_properties)
        for number in told.get("cases", ()):
            shown = self._shown[number]
            if report.skipped:
                reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
                shown.skips.add(reason.removeprefix("Skipped: "))
            else:
                shown.passed += report.passed
                shown.failed += report.failed
                shown.runs += told.get("injected", 1)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if any(line.outcome in (RED, NOT_RUN) for line in self.lines) and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("fault matrix")
        terminalreporter.write_line(f"{'case':>4}  {'fault':<56} {'by':<10} {'runs':>5}  outcome")
        for line in self.lines:
            terminalreporter.write_line(
                f"{line.number:>4}  {line.fault:<56} {line.by:<10} {line.runs:>5}  {line.outcome}"
            )
        terminalreporter.write_line(count_outcomes(list(self.lines)))
        self._write_files()

    def _write_files(self) -> None:
        page, record = self._config.getoption("matrix_page"), self._config.getoption("matrix_json")
        if record:
            record.write_text(json.dumps([asdict(line) for line in self.lines], indent=2) + "\n")
        if page:
            head, _, rest = page.read_text().partition(_BEGIN)
            page.write_text(
                f"{head}{_BEGIN}\n{write_table(list(self.lines))}\n{_END}{rest.partition(_END)[2]}"
            )


def count_outcomes(lines: list[Line]) -> str:
    """`49 green, 1 not testable here; 1,234 faults injected`."""
    words = [line.outcome.split(":")[0].split(" (")[0] for line in lines]
    counts = ", ".join(
        f"{words.count(word)} {word}" for word in (GREEN, RED, NOT_HERE, NOT_RUN) if word in words
    )
    return f"{counts}; {sum(line.runs for line in lines):,} faults injected"


def write_table(lines: list[Line]) -> str:
    """The matrix in Markdown."""
    rows = [
        f"| {line.number} | {line.fault} | {line.by} | {line.expected} | {line.runs} | {line.outcome} |"
        for line in lines
    ]
    head = ["| # | fault | injector | comes out | runs | outcome |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *rows, "", count_outcomes(lines)])


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "the fault matrix")
    group.addoption("--matrix", action="store_true", help="print the fault matrix; fail if a case is red")
    group.addoption("--matrix-page", type=Path, metavar="PAGE", help="and write it into a Markdown page")
    group.addoption("--matrix-json", type=Path, metavar="FILE", help="and write it as JSON")
    group.addoption("--kills", type=int, default=60, metavar="N", help="random kills in all")
    group.addoption("--kill-seed", type=int, default=SEED, metavar="N", help="of the random kills")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("matrix") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Matrix(config), "fault matrix")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each report say which cases its test shows."""
    for item in items:
        cases = sorted({number for mark in item.iter_markers("case") for number in mark.args})
        unknown = [number for number in cases if number not in BY_NUMBER]
        if unknown:
            raise pytest.UsageError(f"{item.nodeid}: no such case in the fault matrix: {unknown}")
        if cases:
            item.user_properties.append(("cases", cases))


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> Callable[[int], None]:
    """To be called with the number of faults that the test has injected."""
    return lambda count: request.node.user_properties.append(("injected", count))
