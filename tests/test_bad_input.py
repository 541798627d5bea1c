"""Jobs over input that is broken in every way: what is said, what is written, what the command ends with."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.cli import main
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.sources import jsonl, lines
from batchneuron.stages import encode
from batchneuron.stages.canary import is_uniform
from batchneuron.stages.execute import execute
from tests.backends.arithmetic import load_all, make_items
from tests.sources.test_bad_files import write_damaged

GOOD = '{"text": "alpha beta", "n": 1}'


@pytest.fixture
def call(capsys, classifier, tmp_path):
    """A job over `in/`: exit code, all that is said, and the rows where there are some."""

    def run(*words, command="run"):
        job = tmp_path / "job.yaml"
        job.write_text(
            f"task: text-classification\nmodel: {{id: '{classifier}'}}\n"
            f"input: {{path: '{tmp_path / 'in'}', columns: {{text: text}}}}\n"
            "shapes: {batch_size: 4, sequence_length: [16, 48]}\n"
            "backend: {workers: 0, kind: torch}\n"
            f"output: {{path: '{tmp_path / 'out'}'}}\nerrors: {{max_rejected: 100}}\n"
        )
        given = [str(job)] if command in ("run", "plan") else [str(tmp_path / "out")]
        with pytest.raises(SystemExit) as ended:
            main([command, *given, *words])
        data = tmp_path / "out/data"
        rows = pq.read_table(data).sort_by("_row") if data.is_dir() else None
        return ended.value.code, "".join(capsys.readouterr()), rows

    (tmp_path / "in").mkdir()
    return run


BROKEN = {
    "cut short": b'{"text": "alpha',
    "wrong number": b'{"text": "alpha", "n": "one"}',
    "not a number": b'{"text": NaN}',
    "infinite": b'{"text": -Infinity}',
    "given twice": b'{"text": "a", "text": "b"}',
    "null": b"null",
    "a list": b"[1, 2]",
    "two objects": b'{"text": "a"}{"text": "b"}',
    "not UTF-8": b'{"text": "\xff\xfe"}',
    "half a character": b'{"text": "\\ud83d"}',
    "raw NUL": b'{"text": "\0"}',
    "nested deep": b'{"text": ' + b"[" * 1_900,
    "a word": b"hello",
    "too long": b'{"text": "' + b"a" * 3000 + b'"}',
    "huge": b'{"text": "a", "n": ' + b"9" * 600 + b"}",
    "no text": b'{"n": 1}',
    "null text": b'{"text": null, "n": 1}',
}


@pytest.mark.case(34, 37, 39)
def test_of_lines_broken_in_many_ways_each_is_named_and_all_others_are_predicted(call, tmp_path, monkeypatch):
    """First a byte order mark, all ends of line those of Windows, the last line has none."""
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 2000)
    monkeypatch.setattr(jsonl, "_SAMPLED_RECORDS", 1)  # types are told from the first line
    broken = list(BROKEN.values())
    rows = [text for bad in broken for text in (GOOD.encode(), b"", bad)]
    path = tmp_path / "in/rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([*rows, GOOD.encode(), BROKEN["cut short"]]))

    code, said, table = call()

    assert code == 0, said
    errors = table["_error"].to_pylist()
    assert len(errors) == 2 * len(broken) + 2
    assert errors[::2] == [None] * (len(broken) + 1)
    assert table["label"].is_null().to_pylist() == [error is not None for error in errors]
    for number, error in enumerate(errors[1::2]):
        line = 3 * number + 3 if number < len(broken) else len(rows) + 2
        assert error["message"].startswith(f"{path}: line {line}: "), (number, error)


@pytest.mark.case(35)
def test_a_broken_csv_keeps_its_ordinals(call, tmp_path):
    path = tmp_path / "in/rows.csv"
    path.write_bytes(
        b'\xef\xbb\xbfid,text\r\n0,alpha\r\n1,"two\r\nlines"\r\n2\r\n3,a,b,c\r\n'
        b'4,\xe9t\xe9\r\n5,"say ""hi"""\r\n6,beta\r\n'
    )
    code, said, table = call()
    assert code == 0, said
    assert table["id"].to_pylist() == ["0", "1", None, None, None, "5", "6"]
    told = {row: error["message"] for row, error in enumerate(table["_error"].to_pylist()) if error}
    assert [told[row].partition("rows.csv: ")[2].partition(":")[0] for row in (2, 3, 4)] == [
        "line 5",
        "line 6",
        "line 7",
    ]


@pytest.mark.case(33)
def test_a_bad_file_ends_the_run_by_name_unless_it_may_be_skipped(call, tmp_path):
    folder = tmp_path / "in"
    pq.write_table(pa.table({"text": ["alpha"] * 5}), folder / "a.parquet")
    (folder / "b.parquet").write_bytes((folder / "a.parquet").read_bytes()[:-9])

    code, said, table = call()
    assert code == 65 and "b.parquet: cannot be read as a Parquet file" in said and table is None

    code, said, _ = call("--set", "input.on_bad_file=skip", command="plan")
    assert code == 0 and "warning     " in said and "b.parquet is left out" in said

    code, said, table = call("--set", "input.on_bad_file=skip")
    assert code == 0 and "warning: " in said and "b.parquet is left out (its rows cannot be counted)" in said
    assert table.num_rows == 5 and table["_error"].null_count == 5
    manifest = json.loads((tmp_path / "out/.batchneuron/manifest.json").read_text())
    assert [file["uri"] for file in manifest["skipped"]] == [str(folder / "b.parquet")]
    for command in ("status", "report", "verify"):
        code, said, _ = call(command=command)
        assert code == 0
        assert command == "verify" or "b.parquet is left out" in said


@pytest.mark.case(33)
def test_a_file_that_turns_out_damaged_loses_rows_that_are_all_counted(call, tmp_path):
    path = write_damaged(tmp_path / "in/a.parquet")
    columns = ("--set", "input.columns.text=t")
    code, said, table = call(*columns)
    assert code == 65 and f"{path}: cannot be read as a Parquet file" in said and table is None

    code, said, table = call(*columns, "--set", "input.on_bad_file=skip")
    assert code == 0, said
    assert table.num_rows == 100
    codes = [error and error["code"] for error in table["_error"].to_pylist()]
    assert codes[:40] == [None] * 40 and "bad_file" in codes and set(codes) <= {None, "bad_file"}
    assert call(command="verify")[0] == 0
    code, said, _ = call(*columns, "--set", "input.on_bad_file=skip", "--set", "errors.max_rejected=10")
    assert code == 65 and "errors.max_rejected" in said


@pytest.mark.case(36)
def test_truncated_gzip_says_after_which_row(call, tmp_path):
    data = gzip.compress((GOOD + "\n").encode() * 100, 0)
    (tmp_path / "in/rows.jsonl.gz").write_bytes(data[: len(data) // 2])
    code, said, table = call()
    assert code == 65 and "rows.jsonl.gz: is not whole gzip data" in said and "after 49 rows" in said
    assert table is None


@pytest.mark.case(38)
def test_a_plan_warns_of_columns_that_differ(call, tmp_path):
    pq.write_table(pa.table({"text": ["alpha"], "n": pa.array([1], pa.int32())}), tmp_path / "in/a.parquet")
    pq.write_table(pa.table({"n": pa.array([2], pa.int64())}), tmp_path / "in/b.parquet")

    for words in ((), ("--dry-run",)):
        code, said, table = call(*words, command="run" if words else "plan")
        assert code == 0 and table is None
        assert "column 'text' is missing in 1 file (1 rows), as in" in said and "b.parquet" in said
        assert "column 'n' is int32 in 1 file (1 rows)" in said and "read as int64" in said

    code, said, table = call()
    assert code == 0 and "warning: column 'text' is missing" in said
    assert table["n"].to_pylist() == [1, 2]
    assert table["_error"].to_pylist()[1]["code"] == "null_input"


@pytest.mark.case(38)
def test_types_without_a_common_one_name_the_column(call, tmp_path):
    pq.write_table(pa.table({"text": ["alpha"], "n": [1]}), tmp_path / "in/a.parquet")
    pq.write_table(pa.table({"text": ["beta"], "n": ["one"]}), tmp_path / "in/b.parquet")
    for words in ((), ("--set", "input.on_bad_file=skip")):
        code, said, table = call(*words)
        assert code == 65 and "column 'n' is string here and int64 in" in said and table is None


@pytest.mark.case(39)
def test_nothing_but_nulls_and_nothing_at_all(call, tmp_path):
    pq.write_table(pa.table({"text": pa.array([None] * 9, pa.string())}), tmp_path / "in/a.parquet")
    code, said, table = call()
    assert code == 0, said
    assert table["label"].null_count == 9
    assert {error["code"] for error in table["_error"].to_pylist()} == {"null_input"}

    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "in/a.parquet")
    code, said, table = call("--overwrite")
    assert code == 0, said
    assert table.num_rows == 0 and table.column_names == [
        "_row",
        "text",
        "label",
        "score",
        "_truncated",
        "_error",
    ]


@pytest.mark.case(37)
def test_a_text_that_is_too_large_for_a_tokenizer_rejects_its_row_alone(call, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "MAX_TEXT_BYTES", 1000)
    texts = ["alpha", "b" * 1001, None, "é" * 500, "a" * 1000]
    pq.write_table(pa.table({"text": pa.array(texts, pa.large_string())}), tmp_path / "in/a.parquet")
    code, said, table = call()
    assert code == 0, said
    codes = [error and error["code"] for error in table["_error"].to_pylist()]
    assert codes == [None, "too_long", "null_input", None, None]
    assert [table["_error"][row].as_py()["message"] for row in (1, 2)] == [
        f"{tmp_path / 'in/a.parquet'}: record 2: 'text' has 1,001 bytes, and 1,000 are taken",
        f"{tmp_path / 'in/a.parquet'}: record 3: 'text' is null",
    ]


@pytest.mark.case(37)
def test_one_word_of_a_million_characters(call, tmp_path):
    pq.write_table(pa.table({"text": ["alpha", "x" * 1_000_000, "beta"]}), tmp_path / "in/a.parquet")
    code, said, table = call()
    assert code == 0, said
    assert table["_error"].null_count == 3


def plant_constant(monkeypatch, scores, missing=0):
    """A device that answers every row with the same scores, and may leave rows of a batch out."""

    class Stuck:
        input_names = ("input_ids", "attention_mask")

        def __init__(self, shape):
            self.shape, self.least_rows = shape, shape.batch_size

        def __call__(self, *inputs):
            return (np.tile(np.float32(scores), (self.shape.batch_size - missing, 1)),)

    monkeypatch.setattr(TorchBackend, "load", lambda _self, _folder, shape, _request: Stuck(shape))


@pytest.mark.case(39)
@pytest.mark.parametrize("content", [b"", b"\n \r\n\n"], ids=["nothing", "blank lines"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_json_lines_without_a_line_are_no_rows(call, tmp_path, name, content):
    (tmp_path / "in" / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)

    code, said, table = call("--set", "input.keep=[id]")

    assert code == 0, said
    assert table.num_rows == 0
    assert {"_row", "id", "label", "score", "_error"} <= set(table.column_names)
    again, said, _ = call("--set", "input.keep=[id]")
    assert again == 0 and call(command="verify")[0] == 0


@pytest.mark.case(40)
def test_a_device_that_always_says_the_same_is_told(call, tmp_path, monkeypatch):
    texts = [" ".join(["alpha", "beta", "mu"][: n % 3 + 1] * (n // 3 + 1)) for n in range(40)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "in/a.parquet")
    code, said, _ = call()
    assert code == 0 and "predictions" not in said
    plant_constant(monkeypatch, [0.2, 0.5, 0.3])
    code, said, _ = call("--overwrite")
    assert code == 0 and said.count("warning: all predictions in shard 0 are the same") >= 1


@pytest.mark.case(40)
def test_numbers_that_are_none_are_rejected_and_another_shape_is_a_bug(call, tmp_path, monkeypatch):
    pq.write_table(pa.table({"text": ["alpha", "beta"]}), tmp_path / "in/a.parquet")
    plant_constant(monkeypatch, [np.nan, 0.5, 0.5])
    code, _, table = call()
    assert code == 0 and {error["code"] for error in table["_error"].to_pylist()} == {"non_finite"}
    plant_constant(monkeypatch, [0.1, 0.2, 0.7], missing=1)
    code, said, _ = call("--overwrite")
    assert code == 70 and "an output of shape (3, 3)" in said
    plant_constant(monkeypatch, [0.1, 0.2])
    code, said, _ = call("--overwrite")
    assert code == 78 and "the model scores 2 classes and names 3" in said


LADDER = Ladder((Shape(8, 4), Shape(4, 8)))


@pytest.mark.case(40)
@pytest.mark.parametrize(
    ("tokens", "answer", "expected"),
    [
        ([[n] for n in range(40)], lambda ids, mask: (np.ones((len(ids), 2)),), True),
        ([[n] for n in range(40)], lambda ids, mask: (np.ones((len(ids), 2)), ids[:, :1]), False),
        ([[n] for n in range(31)], lambda ids, mask: (np.ones((len(ids), 2)),), False),
        ([[7]] * 99, lambda ids, mask: (np.ones((len(ids), 2)),), False),
        ([[n] * (n % 8 + 1) for n in range(40)], lambda ids, mask: (np.ones((len(ids), 2)),), True),
        (
            [[n] for n in range(40)],
            lambda ids, mask: (np.ones((len(ids), 2)) + (ids[:, :1] == 39) * 1e-9,),
            False,
        ),
    ],
)
def test_only_different_inputs_with_the_very_same_numbers_are_suspect(tokens, answer, expected):
    items = make_items(tokens)
    executed = execute(items, LADDER, load_all(LADDER, answer), None, lambda tokens: None)
    assert is_uniform(items, executed) is expected
