import pytest

from batchneuron.spec.document import MAX_BYTES, Malformed, read_document, read_value
from batchneuron.spec.located import Place


def read(text):
    findings = []
    return read_document(text, "job.yaml", findings), findings


def refuse(text):
    with pytest.raises(Malformed) as caught:
        read(text)
    return caught.value.finding


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-4", 0.0001),
        ("5E3", 5000.0),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("12:30:00", "12:30:00"),
        ("2026-11-22", "2026-11-22"),
        ("010", 10),
        ("0o17", 15),
        ("0x1f", 31),
        ("-3", -3),
        ("'5'", "5"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
        ("[1, {b: x}]", [1, {"b": "x"}]),
    ],
)
def test_scalars_follow_yaml_1_2(written, value):
    root, findings = read(f"a: {written}")

    assert root.plain() == {"a": value}
    assert type(root.plain()["a"]) is type(value)
    assert findings == []


def test_values_know_the_lines_of_their_keys():
    root, _ = read("# comment\na:\n  b:\n    1\n  c:\n  - x\n  - y\n")

    assert str(root.get("a", "b").place) == "job.yaml:3"
    assert str(root.get("a", "c").place) == "job.yaml:5"
    assert str(root.get("a", "c", 1).place) == "job.yaml:7"


def test_a_key_given_twice_is_told_with_both_lines():
    root, (finding,) = read("a: 1\nb: 2\na: 3\n")

    assert root.plain() == {"a": 1, "b": 2}
    assert finding.place.line == 3
    assert finding.path == ("a",)
    assert finding.what == "is given twice; the first is on line 1"


def test_tags_merge_keys_and_keys_that_are_no_text_are_told_together():
    _, findings = read("a: !!python/name:os.system x\nb: &x {c: 1}\nd:\n  <<: *x\n2: e\n[f]: g\n")

    assert [(finding.place.line, finding.what) for finding in findings] == [
        (1, "has the tag !!python/name:os.system; tags are not allowed"),
        (4, "merge keys are not YAML 1.2"),
        (5, "the spec has a key that is not text"),
        (6, "the spec has a key that is not text"),
    ]


def test_a_few_aliases_are_read_at_their_own_line():
    root, findings = read("a: &x [1, 2]\nb: *x\n")

    assert root.plain() == {"a": [1, 2], "b": [1, 2]}
    assert root.get("b").place.line == 2
    assert findings == []


def test_an_alias_bomb_is_refused():
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]

    assert "more than 8 aliases" in refuse("\n".join(lines)).what


def test_an_alias_needs_an_anchor_before_it_and_not_around_it():
    assert "no &y before it" in refuse("a: *y").what
    assert "no &y before it" in refuse("a: &y [*y]").what


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("", 1, "is empty"),
        ("# nothing\n", 1, "is empty"),
        ("---\n", 1, "is empty"),
        ("- a\n", 1, "expected a mapping"),
        ("just words", 1, "got 'just words'"),
        ("a: 1\nb: c: d\n", 2, "column 5: mapping values are not allowed"),
        ("a: 1\nb: [1, 2\n", 3, "that began on line 2"),
        ("a: 1\n\tb: 2\n", 2, "column"),
        ("a: @x", 1, "'@' that cannot start"),
        ("a: 1\n---\nb: 2\n", 2, "more than one document"),
        ("%YAML 1.1\n---\na: no\n", 2, "not YAML 1.2"),
        ("a: 1\nb: \x07\n", 2, "column 4: a control character"),
        ("a: " + "[" * 5000, 1, "nested more than 20 levels"),
    ],
)
def test_a_document_that_cannot_be_read_says_where(text, line, part):
    finding = refuse(text)

    assert finding.place == Place("job.yaml", line)
    assert part in finding.what


def test_a_document_is_one_mebibyte_at_most():
    head = "a: 1 #"
    root, _ = read(head + "x" * (MAX_BYTES - len(head)))

    assert root.plain() == {"a": 1}
    assert "1 MiB" in refuse(head + "x" * MAX_BYTES).what
    assert "1 MiB" in refuse("a: " + "é" * (MAX_BYTES // 2)).what


def test_a_flag_holds_a_scalar_or_a_list_or_a_mapping():
    place = Place("--set a=b")

    assert read_value("x@main", place, []).plain() == "x@main"
    assert read_value("[16, 32]", place, []).plain() == [16, 32]
    assert read_value("{a: 1}", place, []).plain() == {"a": 1}
    assert read_value("", place, []).plain() is None
    with pytest.raises(Malformed) as caught:
        read_value("[16", place, [])
    assert caught.value.finding.place == place
