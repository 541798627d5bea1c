"""The parity gate: planted faults are caught before anything is written, what is rounding passes, once."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.artifacts import Artifact
from batchneuron.backends.backend import BackendFacts
from batchneuron.backends.torch_eager import TorchExecutable
from batchneuron.errors import BatchNeuronError, ParityError
from batchneuron.open_run import open_run
from batchneuron.planning.prepare import prepare
from batchneuron.planning.preview import preview_run
from batchneuron.planning.shapes import Shape
from batchneuron.programs import parity
from batchneuron.programs.agreement import Agreement
from batchneuron.run import run_job
from batchneuron.showing.render import render_parity
from batchneuron.stages import encode
from batchneuron.stages.tokenize import Tokenizer
from batchneuron.watch import Watch
from tests.backends.planted import flipped, ignored_mask, nan, nudge, plant
from tests.tiny import WORDS

HALF = "backend.precision=bfloat16"


@pytest.fixture
def embeddings(encoder):
    return ("task=feature-extraction", f"model.id={encoder}")


def read_record(tmp_path, name="run", out="out"):
    return json.loads((tmp_path / out / ".batchneuron" / f"{name}.json").read_text())


def refuse(*_):
    raise AssertionError("measured once more")


@pytest.mark.parametrize("fault", [ignored_mask, nan])
@pytest.mark.parametrize("task", ["classifier", "encoder"])
def test_a_planted_fault_stops_the_job_before_anything_is_written(
    make_spec, embeddings, monkeypatch, tmp_path, fault, task
):
    plant(monkeypatch, bfloat16=fault)

    with pytest.raises(ParityError) as caught:
        run_job(make_spec(HALF, *(embeddings if task == "encoder" else ())))

    figure = "rows give NaN" if fault is nan else "cosine of" if task == "encoder" else "labels agree in"
    assert figure in caught.value.what
    assert all(f"shape {shape}, " in caught.value.what for shape in ("4x8", "4x16", "4x48"))
    assert caught.value.where == "planted bfloat16"
    assert "backend.precision: float32" in caught.value.hint
    assert caught.value.exit_code == 78
    assert not (tmp_path / "out").exists()


def test_classes_in_the_wrong_order_are_caught_in_float32_too(make_spec, monkeypatch):
    plant(monkeypatch, float32=flipped)

    with pytest.raises(ParityError, match=r"at least 100\.0% is needed") as caught:
        run_job(make_spec("backend.precision=float32"))

    assert "report these figures" in caught.value.hint


def test_rounding_passes_and_its_figures_are_kept(make_spec, monkeypatch, tmp_path):
    plant(monkeypatch, bfloat16=nudge)

    run_job(make_spec(HALF))

    record, manifest = read_record(tmp_path), read_record(tmp_path, "manifest")
    assert record["parity"] == manifest["parity"]
    assert record["parity"]["status"] == "measured"
    assert [shape["shape"] for shape in record["parity"]["shapes"]] == ["4x8", "4x16", "4x48"]
    longest = record["parity"]["shapes"][-1]["agreement"]
    assert (longest["rows"], longest["non_finite_rows"], longest["label_agreement"]) == (42, 0, 1.0)
    assert 0.001 < longest["score_difference_max"] <= 0.01
    assert preview_run(make_spec(HALF)).parity.overall.rows == sum(
        shape["agreement"]["rows"] for shape in record["parity"]["shapes"]
    )


def test_an_artifact_is_measured_once_unless_more_rows_are_asked_for(make_spec, monkeypatch, tmp_path):
    plant(monkeypatch)
    run_job(make_spec(HALF, "backend.parity_rows=9"))
    first = read_record(tmp_path)["parity"]
    monkeypatch.setattr(parity, "measure", refuse)
    other = f"output.path={tmp_path / 'other'}"

    run_job(make_spec(HALF, "backend.parity_rows=9", other))

    assert read_record(tmp_path, out="other")["parity"] == first
    with pytest.raises(BatchNeuronError, match="AssertionError: measured once more"):
        run_job(make_spec(HALF, "backend.parity_rows=10", f"output.path={tmp_path / 'third'}"))


def test_a_fault_is_measured_again_and_stays_one(make_spec, monkeypatch):
    plant(monkeypatch, bfloat16=ignored_mask)
    for _ in range(2):
        with pytest.raises(ParityError):
            run_job(make_spec(HALF))


def test_without_rows_there_is_no_gate_and_the_record_says_so(make_spec, monkeypatch, tmp_path):
    plant(monkeypatch, bfloat16=ignored_mask)
    monkeypatch.setattr(parity, "measure", refuse)

    run_job(make_spec(HALF, "backend.parity_rows=0"))

    assert read_record(tmp_path)["parity"] == {"status": "off", "tolerance": None, "shapes": []}


def test_the_reference_is_not_held_against_itself(make_spec, monkeypatch, tmp_path):
    monkeypatch.setattr(parity, "measure", refuse)

    run_job(make_spec())

    assert read_record(tmp_path)["parity"]["status"] == "reference"


def test_rows_go_from_the_shortest_that_is_nearly_all_padding_to_the_longest(make_spec, monkeypatch):
    seen = {}

    def watched(executable, batch):
        lengths = batch["attention_mask"].sum(axis=1).tolist()
        seen.setdefault(executable.shape.sequence_length, set()).update(lengths)
        return executable(*batch.values())

    plant(monkeypatch, bfloat16=watched)
    open_run(prepare(make_spec(HALF, "backend.parity_rows=12")))

    assert [min(lengths) for lengths in seen.values()] == [3, 3, 3]
    assert (max(seen[8]), max(seen[16]), max(seen[48])) == (8, 16, 32)


def test_what_the_reference_cannot_predict_either_is_left_out(make_spec, monkeypatch, tmp_path):
    plain = TorchExecutable.__call__

    def broken(self, *inputs):
        return nan(lambda *batch: plain(self, *batch), dict(zip(self.input_names, inputs, strict=True)))

    monkeypatch.setattr(TorchExecutable, "__call__", broken)
    plant(monkeypatch)

    opened = open_run(prepare(make_spec(HALF)))

    found = [shape.agreement for shape in opened.order.record.parity.shapes]
    assert [agreement.non_finite_rows for agreement in found] == [0, 0, 0]
    assert 0 < found[-1].rows < 42


def test_auto_falls_back_to_float32_says_so_and_a_resumed_run_stays_with_it(make_spec, monkeypatch, tmp_path):
    plant(monkeypatch, bfloat16=ignored_mask)
    told = []

    run_job(make_spec(), watch=Watch(on_fallback=told.append))

    assert [error.where for error in told] == ["planted bfloat16"]
    record = read_record(tmp_path)
    assert record["fields"]["backend"]["precision"] == "float32"
    assert record["spec"]["backend"]["precision"] == "auto"
    next((tmp_path / "out" / "data").iterdir()).unlink()
    monkeypatch.setattr(parity, "measure", refuse)
    assert preview_run(make_spec()).backend.startswith("planted float32 ")
    assert len(run_job(make_spec(), watch=Watch(on_fallback=refuse)).done_now) == 1


def test_auto_in_float32_has_nothing_to_fall_back_to(make_spec, monkeypatch):
    plant(monkeypatch, bfloat16=ignored_mask, float32=ignored_mask)

    with pytest.raises(ParityError, match="planted float32"):
        run_job(make_spec())


def test_of_two_runners_that_choose_differently_the_first_to_claim_the_folder_counts(make_spec, monkeypatch):
    plant(monkeypatch, bfloat16=ignored_mask)

    def let_another_be_first(_):
        plant(monkeypatch)
        open_run(prepare(make_spec()))

    opened = open_run(prepare(make_spec()), Watch(on_fallback=let_another_be_first))

    assert opened.order.record.fields["backend"]["precision"] == "bfloat16"
    assert opened.prepared.backend.facts.precision == "bfloat16"
    assert opened.order.spec.backend.precision == "bfloat16"


@pytest.mark.parametrize(
    "options", ["{dtype: int8}", "{dtype: binary}", "{pooling: none}", "{dtype: float16}"]
)
def test_every_form_of_a_vector_is_held_against_the_reference(make_spec, embeddings, monkeypatch, options):
    plant(monkeypatch, bfloat16=nudge)
    opened = open_run(prepare(make_spec(HALF, *embeddings, f"options={options}")))

    found = opened.order.record.parity.overall
    assert found != Agreement(found.rows)


def test_a_process_of_its_own_measures_when_there_are_workers(make_spec, monkeypatch):
    monkeypatch.setattr("batchneuron.programs.measure.open_runner", refuse)  # in this process

    opened = open_run(prepare(make_spec(HALF, "backend.workers=1", "backend.kind=torch")))

    found = opened.order.record.parity.shapes[-1].agreement
    assert found.rows == 42
    assert 0 < found.score_difference_max <= 0.06


def test_an_input_without_rows_is_no_proof(make_spec, monkeypatch, tmp_path):
    plant(monkeypatch, bfloat16=ignored_mask)
    run_job(make_spec(HALF, "input.limit=0"))

    assert read_record(tmp_path)["parity"]["shapes"][0]["agreement"]["rows"] == 0
    with pytest.raises(ParityError):
        run_job(make_spec(HALF, f"output.path={tmp_path / 'other'}"))


def test_of_shapes_that_share_a_program_some_of_all_lengths_are_measured():
    artifacts = [Artifact(Shape(1, length), Path("one")) for length in range(1, 33)]

    def choose(compiles_per_shape, count):
        facts = BackendFacts("kind", "target", "float32", {}, {}, 64, compiles_per_shape)
        return [probe.shape.sequence_length for probe in parity.choose_probes(artifacts[:count], facts)]

    assert choose(False, 32) == [1, 11, 21, 32]
    assert choose(False, 5) == [1, 2, 3, 5]
    assert choose(False, 3) == [1, 2, 3]
    assert choose(True, 32) == list(range(1, 33))


@pytest.fixture
def write_texts(tmp_path):
    """An input of texts of so many words."""

    def write(counts):
        texts = [" ".join(WORDS[place % len(WORDS)] for place in range(count)) for count in counts]
        pq.write_table(pa.table({"text": texts}), tmp_path / "texts.parquet")
        return (HALF, f"input.path={tmp_path / 'texts.parquet'}")

    return write


def break_short(executable, batch):
    """Right, but for the shape of eight slots, where each class has its neighbour's score."""
    outputs = executable(*batch.values())
    if executable.shape.sequence_length == 8:
        return tuple(np.roll(output, 1, axis=-1) for output in outputs)
    return outputs


def test_for_a_shape_that_no_row_fits_the_shortest_are_cut(make_spec, monkeypatch, write_texts):
    plant(monkeypatch, bfloat16=break_short)

    with pytest.raises(ParityError) as caught:
        run_job(make_spec(*write_texts([30, 20, *[25] * 20])))

    assert "shape 4x8, 8 rows; rows " in caught.value.what
    assert "4x16" not in caught.value.what


def test_a_shape_that_no_text_has_room_in_is_told(make_spec, monkeypatch, write_texts):
    plant(monkeypatch, bfloat16=break_short)
    spec = make_spec(*write_texts([20, 30]), "shapes.sequence_length=[2,48]")

    parity_found = open_run(prepare(spec)).order.record.parity

    assert [(one.shape, one.agreement.rows) for one in parity_found.shapes] == [("4x2", 0), ("4x48", 2)]
    assert render_parity(parity_found).endswith("; not looked at, for want of a row: 4x2")


def test_a_text_beyond_the_limit_of_bytes_is_not_tokenised(make_spec, monkeypatch, write_texts):
    plant(monkeypatch)
    seen, tokenise = [], Tokenizer.encode

    def watch(self, texts, *rest):
        seen.extend(texts)
        return tokenise(self, texts, *rest)

    monkeypatch.setattr(Tokenizer, "encode", watch)
    monkeypatch.setattr(encode, "MAX_TEXT_BYTES", 100)

    opened = open_run(prepare(make_spec(*write_texts([2, 40, 3]))))

    assert max(map(len, seen)) <= 100
    assert opened.order.record.parity.shapes[-1].agreement.rows == 2


def test_rows_of_many_items_are_fewer(make_spec, monkeypatch, write_texts):
    """Twelve words are two windows of six words and two special tokens, eighteen are three."""
    counts = Counter({12: 30, 18: 30})
    plant(monkeypatch)
    shapes = ("shapes={batch_size: 4, sequence_length: [8], overflow: split}", "backend.parity_rows=50")

    opened = open_run(prepare(make_spec(*write_texts(counts.elements()), *shapes)))

    (found,) = opened.order.record.parity.shapes
    assert found.agreement.rows == 50 / 2.5
