"""The fingerprint: blind to the order of keys, and to nothing else."""

import copy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchneuron.planning.fingerprint import Fingerprint, digest_json, name_differences

FIELDS = {
    "task": "text-classification",
    "options": {"top_k": 1, "prompt": None},
    "input": {"columns": {"text": "{title} {body}"}, "keep": ["id"], "limit": None},
    "backend": {"precision": "float32", "compiler_args": {}},
    "shard_rows": "auto",
}
LEAVES = [
    (("task",), "feature-extraction"),
    (("options", "top_k"), 5),
    (("options", "prompt"), ""),
    (("input", "columns", "text"), "title"),
    (("input", "keep"), {}),
    (("input", "keep"), ["id", "note"]),
    (("input", "limit"), 0),
    (("backend", "compiler_args"), {"optlevel": 1}),
    (("backend", "compiler_args"), []),
    (("shard_rows",), 10),
]

names = st.text("abc_é", min_size=1, max_size=4)
leaves = st.integers(-9, 9) | st.text(max_size=5) | st.lists(st.integers(-9, 9), max_size=3)
fields = st.dictionaries(names, st.recursive(leaves, lambda inner: st.dictionaries(names, inner, max_size=3)))


def reorder(value):
    """The same value with the keys of every mapping the other way round."""
    if not isinstance(value, dict):
        return value
    return {key: reorder(inner) for key, inner in reversed(value.items())}


def change(value, path, leaf):
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = leaf
    return changed


@settings(max_examples=40, deadline=None)
@given(fields)
def test_the_order_of_keys_does_not_matter(value):
    assert Fingerprint(reorder(value)).digest == Fingerprint(value).digest
    assert name_differences(value, reorder(value)) == []


@settings(max_examples=60, deadline=None)
@given(fields, fields)
def test_what_differs_has_another_digest_and_a_name(ours, theirs):
    same = Fingerprint(ours).digest == Fingerprint(theirs).digest

    assert same == (ours == theirs)
    assert same == (not name_differences(ours, theirs))


@pytest.mark.parametrize(("path", "leaf"), LEAVES, ids=str)
def test_any_change_of_a_field_is_seen_and_named(path, leaf):
    theirs = change(FIELDS, path, leaf)

    differences = name_differences(FIELDS, theirs)

    assert Fingerprint(theirs).digest != Fingerprint(FIELDS).digest
    assert differences
    assert all(line.startswith(".".join(path)) for line in differences)


def test_a_difference_shows_both_values():
    theirs = change(FIELDS, ("options", "top_k"), 5)

    assert name_differences(FIELDS, theirs) == ["options.top_k: 1 here, 5 in the run folder"]


def test_a_field_that_only_one_side_has_is_named():
    theirs = change(FIELDS, ("options", "threshold"), 0.5)

    assert name_differences(FIELDS, theirs) == ["options.threshold: null here, 0.5 in the run folder"]


def test_a_long_value_is_cut_in_the_message():
    (line,) = name_differences({"a": "x" * 500}, {"a": "é"})

    assert len(line) < 120
    assert line.endswith('… here, "é" in the run folder')


def test_run8_follows_the_digest_and_the_generation():
    first, again, second = (
        Fingerprint(FIELDS).run8(1),
        Fingerprint(FIELDS).run8(1),
        Fingerprint(FIELDS).run8(2),
    )
    other = Fingerprint(change(FIELDS, ("shard_rows",), 10)).run8(1)

    assert re.fullmatch("[0-9a-f]{8}", first)
    assert first == again
    assert len({first, second, other}) == 3


def test_the_digest_is_fixed():
    """A run folder of an older version has to be recognised, so the canonical form never changes."""
    assert digest_json({"b": [1, None, "é"], "a": True}) == (
        "2484f94c6e82940ae18c31c259f34fe74e0317cef454278ff2e0eee9a3940e79"
    )


def test_not_a_number_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_json({"a": float("nan")})
