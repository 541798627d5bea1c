"""Errors: what each exits with, and that each survives the way out of a worker with its text."""

import pickle
import re

import pytest

from batchneuron import errors
from batchneuron.errors import BatchNeuronError, Problem, SpecError


def list_subclasses(kind):
    return [kind, *(found for child in kind.__subclasses__() for found in list_subclasses(child))]


ALL = [kind for kind in list_subclasses(BatchNeuronError) if kind.__module__ == errors.__name__]


def read_tree():
    """Name, parent and exit code of each line of the module's docstring."""
    tree, path = {}, {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+)(?: .*?)?(?:exit (\d+))?$", line)
        if match:
            depth = len(match[1]) // 4
            path[depth] = match[2]
            tree[match[2]] = (path.get(depth - 1), int(match[3]) if match[3] else None)
    return tree


def make_error(kind):
    if kind is SpecError:
        return SpecError(
            (Problem("job.yaml:3", "input.path", "missing", "say where"), Problem("--set x", "", "no"))
        )
    return kind("it broke", "here", "mend it")


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes():
    tree = read_tree()

    assert set(tree) == {kind.__name__ for kind in ALL}
    for kind in ALL[1:]:
        assert tree[kind.__name__][0] == kind.__base__.__name__


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_exit_codes_are_those_of_the_docstring(kind):
    tree = read_tree()
    name = kind.__name__
    while tree[name][1] is None and tree[name][0] is not None:
        name = tree[name][0]

    assert kind.exit_code == (tree[name][1] or 70)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_with_its_text(kind):
    error = make_error(kind)

    again = pickle.loads(pickle.dumps(error))

    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert (again.exit_code, again.retryable) == (kind.exit_code, kind.retryable)


def test_only_what_running_again_may_mend_is_retryable():
    assert {kind.__name__ for kind in ALL if kind.retryable} == {
        *("WorkerFailed", "DeviceFault", "DiskFailed", "CoreLost", "Incomplete"),
        *("SourceUnavailable", "ModelUnavailable"),
    }
    # A shard is tried again on a disk that fails; a job is not.
    assert {kind.exit_code for kind in ALL if kind.retryable and kind.__name__ != "DiskFailed"} == {75}


def test_an_error_says_what_where_and_what_to_do():
    assert str(BatchNeuronError("it broke", "here", "mend it")) == "here: it broke\n  → mend it"
    assert str(BatchNeuronError("it broke")) == "it broke"


def test_a_spec_error_holds_all_problems():
    error = make_error(SpecError)

    assert str(error).splitlines() == [
        "2 problems in the spec:",
        "  job.yaml:3: input.path: missing (say where)",
        "  --set x: no",
    ]
    assert str(SpecError((Problem("a", "b", "c"),))).startswith("1 problem in the spec:")
