"""The fault matrix is whole: every case has a test, or a reason why none can show it; the page tells it."""

import ast
from pathlib import Path

import pytest

from tests.faults.matrix import BY_NUMBER, CASES, INJECTORS
from tests.faults.report import Matrix, count_outcomes, write_table

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/faults.md"


@pytest.fixture(scope="module")
def marked():
    """Files and the case numbers that stand there in `pytest.mark.case(…)`."""
    return list(iter_marked())


def iter_marked():
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "mark.case" in text else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.case":
                yield from ((path.name, each.value) for each in node.args if isinstance(each, ast.Constant))


def test_there_are_fifty_cases_in_order():
    assert [case.number for case in CASES] == list(range(1, 51))
    assert {case.by for case in CASES} <= set(INJECTORS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.number))
def test_a_case_has_a_test_or_a_reason(case, marked):
    tests = [path for path, number in marked if number == case.number]
    assert bool(tests) != bool(case.reason), f"{case}: {tests}"


def test_tests_name_cases_that_exist(marked):
    assert {number for _, number in marked} <= set(BY_NUMBER)


def report(outcome, *cases, when="call", injected=1, longrepr=None):
    properties = [("cases", list(cases)), ("injected", injected)]
    return pytest.TestReport("x", ("x", 1, "x"), {}, outcome, longrepr, when, user_properties=properties)


def test_outcomes_are_counted_case_by_case():
    matrix = Matrix(None)
    matrix.pytest_runtest_logreport(report("passed", 1, when="setup"))
    matrix.pytest_runtest_logreport(report("passed", 1, 2, injected=57))
    matrix.pytest_runtest_logreport(report("failed", 2))
    skipped = ("test_x.py", 1, "Skipped: no strace")
    matrix.pytest_runtest_logreport(report("skipped", 1, 3, when="setup", longrepr=skipped))
    matrix.pytest_runtest_logreport(report("failed", 4, when="setup"))
    lines = list(matrix.lines)

    assert [line.outcome for line in lines[:5]] == [
        "green (in part: no strace)",
        "RED",
        "not testable here: no strace",
        "RED",
        "not run",
    ]
    assert lines[49].outcome.startswith("not testable here: there is no metrics endpoint")
    assert [line.runs for line in lines[:4]] == [57, 58, 0, 1]
    assert count_outcomes(lines) == "1 green, 2 RED, 2 not testable here, 45 not run; 116 faults injected"
    assert write_table(lines).count("\n| ") == 51 - 1


def test_the_page_has_every_case():
    text = PAGE.read_text()
    assert [case.number for case in CASES if f"| {case.number} | {case.fault} |" not in text] == []
