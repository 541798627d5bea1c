"""Calls, one after the other in one process on a simulated machine, and what came of each.

A module with functions `call_…` runs itself through `main`; a test reads the answers of all of them at once,
because importing torch takes longer than the calls.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.simulator.machine import Machine


def ask(machine: Machine, callers: Path, **variables: str) -> dict[str, str]:
    """What each call of a file gave: `repr` of its result, or the type and text of its error."""
    done = subprocess.run(
        [sys.executable, str(callers)],
        env={**machine.environment, **variables},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def main(names: Mapping[str, Any]) -> None:
    """Call everything named `call_…`, in order."""
    answers = {}
    for name, call in names.items():
        if name.startswith("call_"):
            try:
                answers[name.removeprefix("call_")] = repr(call())
            except Exception as error:  # noqa: BLE001  # any error is an answer
                answers[name.removeprefix("call_")] = f"{type(error).__name__}: {error}"
    sys.stdout.write(json.dumps(answers) + "\n")
