"""`make audit`: a vulnerability fails, a database that is not there does not, and anything else does."""

import json
import re
import sys

import pytest

from scripts import audit
from tests.faults.harness import REPOSITORY

FLAW = {"id": "PYSEC-2014-8", "fix_versions": ["2.7.2"], "aliases": [], "description": ""}
BAD = {"name": "jinja2", "version": "2.4.1", "vulns": [FLAW]}
GOOD = {"name": "numpy", "version": "2.4.1", "vulns": []}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}
AWAY = "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='pypi.org'): Max retries exceeded"


@pytest.mark.parametrize(
    ("code", "packages", "err", "expected", "verdict"),
    [
        (0, [GOOD], "", 0, "no known vulnerability in 1 packages\n"),
        (0, [GOOD, UNKNOWN], "", 0, "no known vulnerability in 1 packages; 1 are unknown to it: torch\n"),
        (
            0,
            [UNKNOWN],
            "No known vulnerabilities found",
            0,
            "not audited: the database that answers knows none",
        ),
        (1, [BAD, UNKNOWN, GOOD], "", 1, "known vulnerabilities"),
        (1, [BAD], AWAY, 1, "known vulnerabilities"),
        (1, None, AWAY, 0, "not audited: the advisory database cannot be reached"),
        (1, None, "ERROR:pip_audit._cli:503 Server Error: Unavailable", 0, "not audited"),
        (1, None, "No module named pip_audit", 1, "pip-audit failed with exit code 1"),
        (2, None, "usage: pip-audit", 1, "pip-audit failed with exit code 2"),
    ],
)
def test_what_it_ends_with(code, packages, err, expected, verdict, capfd):
    out = "" if packages is None else json.dumps({"dependencies": packages})
    said = f"sys.stdout.write({out!r}); sys.stderr.write({err!r})"
    assert audit.main([sys.executable, "-c", f"import sys; {said}; sys.exit({code})"]) == expected
    told = capfd.readouterr().out
    assert told.startswith(f"audit: {verdict}")
    assert ("jinja2 2.4.1: PYSEC-2014-8, mended in 2.7.2" in told) == (
        packages is not None and BAD in packages
    )


def test_each_exception_has_a_reason():
    assert all(re.fullmatch(r"(PYSEC|GHSA|CVE)-[\w-]+", name) and why for name, why in audit.IGNORED.items())


def test_it_is_part_of_the_checks():
    assert "scripts/audit.py" in (REPOSITORY / "Makefile").read_text()
    assert "make audit" in (REPOSITORY / ".ci/run").read_text()
