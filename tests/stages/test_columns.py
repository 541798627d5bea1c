"""Which columns are read and carried, and what is said when one is not there."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.errors import ColumnMissing, SpecError
from batchneuron.spec.sections import InputSpec
from batchneuron.stages.columns import ERROR, ROW, TRUNCATED, assume_columns, bind_columns
from batchneuron.tasks.task import TaskKind, TaskOptions

KIND = TaskKind(
    name="labelling",
    inputs=("text",),
    optional_inputs=("text_pair", "picture"),
    default_model="",
    auto_model="",
    options=TaskOptions,
    open=lambda model, options: None,
    raw_inputs=("picture",),
)
PREDICTIONS = pa.schema([("label", pa.string()), ("score", pa.float32())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), metadata={"comment": "key"}),
        ("title", pa.string()),
        ("text", pa.string()),
        ("score", pa.float64()),
        ("photo", pa.binary()),
    ]
)


def bind(schema=SCHEMA, **spec):
    return bind_columns(InputSpec(path="rows.parquet", **spec), KIND, schema, PREDICTIONS)


def sources(columns):
    return {name: template.columns for name, template in columns.inputs.items()}


def test_a_column_named_like_the_input_is_taken():
    columns = bind()

    assert sources(columns) == {"text": ("text",)}
    assert columns.needed(SCHEMA).names == SCHEMA.names


def test_inputs_are_filled_from_templates_and_raw_ones_taken_as_they_are():
    columns = bind(columns={"text": "{id}: {title}", "text_pair": "text", "picture": "photo"})
    table = pa.table(
        [[1, None], ["a", "b"], ["x", None], [0.5, 0.5], [b"\xff", None]], schema=SCHEMA.remove_metadata()
    )

    inputs = columns.pick_inputs(table)

    assert inputs.to_pydict() == {
        "text": ["1: a", None],
        "text_pair": ["x", None],
        "picture": [b"\xff", None],
    }
    assert inputs["picture"].type == pa.binary()


def test_only_what_is_named_is_read_in_the_order_of_the_source():
    columns = bind(columns={"text": "{title} {text}"}, keep={"key": "id"})

    assert columns.needed(SCHEMA) == pa.schema(
        [("id", pa.int64()), ("title", pa.string()), ("text", pa.string())]
    )
    assert columns.needed(SCHEMA).field("id").metadata is None


def test_a_missing_input_says_what_is_needed_and_what_there_is():
    schema = pa.schema([("id", pa.int64()), ("body", pa.string())])

    with pytest.raises(ColumnMissing) as caught:
        bind(schema)

    assert "no column 'text', which labelling needs" in str(caught.value)
    assert "id (int64), body (string)" in str(caught.value)
    with pytest.raises(ColumnMissing, match="no columns at all"):
        bind(pa.schema([]))


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({}, ["text"]),
        ({"columns": {"text": "{title}: {body}"}, "keep": ["id", "body"]}, ["title", "body", "id"]),
        ({"columns": {"other": "b"}, "keep": {"kept": "c"}}, ["text", "b", "c"]),
    ],
)
def test_an_input_without_rows_and_columns_has_those_that_are_named(spec, names):
    made = assume_columns(InputSpec(path="rows", **spec), KIND)

    assert made.names == names and set(made.types) == {pa.string()}


@pytest.mark.parametrize(
    "spec", [{"columns": {"text": "titel"}}, {"columns": {"text": "{id} {titel}"}}, {"keep": ["titel"]}]
)
def test_a_missing_column_names_the_nearest(spec):
    with pytest.raises(
        ColumnMissing, match=r"(?s)no column 'titel'.*did you mean 'title'\?.*photo \(binary\)"
    ):
        bind(**spec)


def test_an_input_the_task_does_not_have_is_named_with_those_it_has():
    with pytest.raises(SpecError) as caught:
        bind(columns={"txt": "text", "question": "text"})

    assert [problem.key for problem in caught.value.problems] == [
        "input.columns.txt",
        "input.columns.question",
    ]
    assert "it has text, text_pair, picture" in str(caught.value)


def test_a_raw_input_is_one_column_and_no_template():
    with pytest.raises(SpecError, match="one column, not a template"):
        bind(columns={"picture": "{photo}{id}"})


def test_by_default_all_columns_are_carried_and_colliding_ones_renamed():
    columns = bind()

    assert columns.keep == {
        "id": "id",
        "title": "title",
        "text": "text",
        "input_score": "score",
        "photo": "photo",
    }
    assert columns.kept(SCHEMA).field("input_score").type == pa.float64()


def test_own_columns_of_the_output_are_never_overwritten():
    schema = pa.schema(
        [("text", pa.string()), (ROW, pa.int64()), (TRUNCATED, pa.bool_()), (ERROR, pa.string())]
    )

    assert list(bind(schema).keep) == ["text", f"input_{ROW}", f"input_{TRUNCATED}", f"input_{ERROR}"]


@given(
    st.lists(
        st.builds("input_".__mul__, st.integers(0, 3)).flatmap(
            lambda prefix: st.sampled_from(["label", "score", "note"]).map(prefix.__add__)
        ),
        unique=True,
    )
)
def test_every_column_is_carried_once_whatever_the_names(names):
    schema = pa.schema([("text", pa.string()), *((name, pa.int64()) for name in names)])

    keep = bind(schema).keep

    assert sorted(keep.values()) == sorted(schema.names)
    assert not set(keep) & {ROW, TRUNCATED, ERROR, *PREDICTIONS.names}


def test_keep_as_a_list_and_as_a_mapping():
    assert bind(keep=["title", "id"]).keep == {"title": "title", "id": "id"}
    assert bind(keep={"key": "id", "again": "id", "given": "score"}).keep == {
        "key": "id",
        "again": "id",
        "given": "score",
    }
    assert bind(keep=[]).keep == bind(keep={}).keep == {}
    assert bind(keep=[]).needed(SCHEMA).names == ["text"]


@pytest.mark.parametrize("keep", [["score"], {"score": "id"}, {ROW: "id"}, {ERROR: "id"}])
def test_a_name_that_a_prediction_has_is_refused_with_a_way_out(keep):
    (output,) = keep

    with pytest.raises(
        SpecError, match=rf"'{output}' is also a column of the output.*keep: \{{input_{output}: "
    ):
        bind(keep=keep)
