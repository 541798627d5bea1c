"""Prints task × architecture × shape, green or what is wrong. Exit code 1 when anything is red."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from batchneuron.programs.program import load_program, quiet_transformers
from lowering.outcome import HEADER, Outcome
from tests.program_cases import Case, list_cases, make_request, save_model


def main() -> int:
    """Run the matrix of one stack."""
    arguments = _read_arguments()
    cases = [case for case in list_cases() if all(word in str(case).split() for word in arguments.only)]
    if not cases:
        sys.exit(f"no program is called {' '.join(arguments.only)}: name a task, an architecture, or both")
    outcomes = []
    if not arguments.json:
        print(f"torch {version('torch')}, transformers {version('transformers')}: {len(cases)} programs")
        print(HEADER, flush=True)
    for case in cases:
        for outcome in _check(case, arguments.stack):
            outcomes.append(outcome)
            if not arguments.json:
                print(outcome.as_line(), flush=True)
    if arguments.json:
        print(json.dumps([outcome.as_json() for outcome in outcomes], indent=2))
    else:
        counts = Counter(outcome.colour for outcome in outcomes)
        print(", ".join(f"{counts[colour]} {colour}" for colour in ("green", "yellow", "red")))
    return int(any(outcome.colour == "red" for outcome in outcomes))


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lowering", description=__doc__)
    parser.add_argument("stack", choices=["xla", "native"], help="whose front end")
    parser.add_argument("only", nargs="*", help="a task, an architecture, or both")
    parser.add_argument("--json", action="store_true", help="everything, for a program to read")
    return parser.parse_args()


def _check(case: Case, stack: str) -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory(prefix="batchneuron-lowering-") as name:
        with quiet_transformers():
            request = make_request(save_model(Path(name), case), case)
        if stack == "native":
            from lowering.native import check_export, check_job

            program = load_program(request, "float32")
            yield check_export(program, str(case), case.shapes[-1])
            yield check_job(program, str(case), case.shapes)
            return
        from lowering.xla import lower

        exact = load_program(request, "float32")
        for shape in case.shapes:
            yield lower(exact, str(case), shape)
        yield lower(load_program(request, "bfloat16"), str(case), case.shapes[-1], exact)


if __name__ == "__main__":
    sys.exit(main())
