"""Hold what is installed against known vulnerabilities: `make audit`.

Ends with 1 where one is found, and with 0 where there is none, or where nobody answers, which it says: a
database that cannot be reached is no reason not to build. What we live with is in IGNORED, with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

IGNORED: dict[str, str] = {}
"""Identifier → why it does not concern us."""
_UNREACHABLE = (
    *("ConnectionError", "ConnectTimeout", "ReadTimeout", "Max retries exceeded", "NewConnectionError"),
    *("NameResolutionError", "ProxyError", "ServiceError", "Server Error", "Could not connect"),
)
_TIMEOUT_S = 300
_SHOWN = 8


def list_words() -> list[str]:
    """The command: packages of this interpreter, by PyPI's own advisories; ours is not on it."""
    ignored = [word for name in IGNORED for word in ("--ignore-vuln", name)]
    told = ["--format", "json", "--progress-spinner", "off"]
    return [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", *told, *ignored]


def judge(code: int, out: str, err: str) -> tuple[int, str]:
    """Exit code and verdict, from how pip-audit ended and what it said."""
    try:
        packages: list[dict[str, Any]] = json.loads(out)["dependencies"]
    except (ValueError, KeyError):
        if any(word in err for word in _UNREACHABLE):
            return 0, "not audited: the advisory database cannot be reached"
        return 1, f"pip-audit failed with exit code {code}\n{err.strip()}"
    found = [_name_flaw(package, flaw) for package in packages for flaw in package.get("vulns", ())]
    if found:
        return 1, "\n".join(
            ["known vulnerabilities: raise the versions, or say why not in scripts/audit.py", *found]
        )
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if len(unknown) == len(packages):
        return 0, f"not audited: the database that answers knows none of {len(packages)} packages"
    names = ", ".join(unknown[:_SHOWN]) + (", …" if len(unknown) > _SHOWN else "")
    rest = f"; {len(unknown)} are unknown to it: {names}" if unknown else ""
    return 0, f"no known vulnerability in {len(packages) - len(unknown)} packages{rest}"


def _name_flaw(package: dict[str, Any], flaw: dict[str, Any]) -> str:
    mended = ", ".join(flaw["fix_versions"]) or "no version"
    return f"  {package['name']} {package['version']}: {flaw['id']}, mended in {mended}"


def main(words: Sequence[str]) -> int:
    """Run it, and say what it found."""
    try:
        done = subprocess.run([*words], capture_output=True, text=True, timeout=_TIMEOUT_S)
        code, verdict = judge(done.returncode, done.stdout, done.stderr)
    except subprocess.TimeoutExpired:
        code, verdict = 0, f"not audited: the advisory database took longer than {_TIMEOUT_S} s"
    sys.stdout.write(f"audit: {verdict}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(list_words()))
