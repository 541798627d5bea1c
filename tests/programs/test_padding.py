"""A model whose outputs depend on padding is refused: by the gate, by a worker, by interactive calls."""

import json

import numpy as np
import pytest

from batchneuron import NeuronModelForSequenceClassification, Predictor, pipeline
from batchneuron.artifacts import default_cache
from batchneuron.errors import ParityError
from batchneuron.open_run import open_run
from batchneuron.planning.prepare import prepare
from batchneuron.programs import padding
from batchneuron.run import run_job
from batchneuron.stages.items import Items, Ragged
from tests import tiny
from tests.backends.planted import plant
from tests.faults.harness import read_rows

LABELS = ["bad", "good"]


@pytest.fixture(scope="module")
def mixer(tmp_path_factory):
    """An FNet, whose Fourier transform goes over padding too."""
    import torch
    from transformers import FNetConfig, FNetForSequenceClassification

    folder = tmp_path_factory.mktemp("mixer")
    torch.manual_seed(0)
    config = FNetConfig(
        vocab_size=128,
        hidden_size=16,
        num_hidden_layers=2,
        intermediate_size=32,
        max_position_embeddings=tiny.MAX_POSITIONS,
        initializer_range=0.5,
        id2label=dict(enumerate(LABELS)),
        label2id={name: number for number, name in enumerate(LABELS)},
    )
    FNetForSequenceClassification(config).eval().save_pretrained(folder)
    tiny.save_tokenizer(folder)
    return folder


@pytest.mark.parametrize("workers", [0, 1])
def test_a_worker_of_the_reference_refuses_it_before_its_first_shard(workers, make_spec, mixer, tmp_path):
    with pytest.raises(
        ParityError, match=r"the same text padded differ by \d+\.\d\d%, at most 0\.2%"
    ) as caught:
        run_job(make_spec(f"model.id={mixer}", f"backend.workers={workers}"))

    assert caught.value.exit_code == 78
    assert "backend.parity_rows: 0" in str(caught.value)
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_the_gate_refuses_it_with_rows_of_the_input_though_the_program_agrees(
    make_spec, mixer, monkeypatch, tmp_path
):
    plant(monkeypatch)

    with pytest.raises(ParityError, match="outputs depend on padding"):
        run_job(make_spec(f"model.id={mixer}", "backend.precision=float32"))

    assert not (tmp_path / "out").exists()


def test_without_a_gate_it_is_taken_as_it_is(make_spec, mixer, tmp_path):
    run_job(make_spec(f"model.id={mixer}", "backend.parity_rows=0"))

    assert read_rows(tmp_path / "out")["label"].null_count == 0


def test_figures_of_a_model_that_masks_padding_are_kept_with_those_of_the_longest_shape(
    make_spec, monkeypatch
):
    plant(monkeypatch)

    found = open_run(prepare(make_spec("backend.precision=bfloat16"))).order.record.parity.shapes

    errors = [shape.padding_error for shape in found]
    assert errors[:-1] == [None, None]
    assert errors[-1] < 1e-5


def refuse(*_):
    raise AssertionError("looked at once more")


def test_it_is_looked_at_once_for_a_program(make_spec, monkeypatch, tmp_path):
    run_job(make_spec())
    (mark,) = default_cache().rglob("padding.json")
    assert json.loads(mark.read_text())["error"] < 1e-5
    monkeypatch.setattr(padding, "measure_padding", refuse)

    run_job(make_spec(f"output.path={tmp_path / 'other'}"))


def test_interactive_calls_refuse_it(mixer):
    shapes = {"batch_size": 2, "sequence_length": 24}

    with pytest.raises(ParityError, match="outputs depend on padding"):
        pipeline("text-classification", model=mixer, input_shapes=shapes)("alpha beta")
    with pytest.raises(ParityError, match="outputs depend on padding"):
        _ = NeuronModelForSequenceClassification.from_pretrained(mixer, export=True, **shapes).program
    with pytest.raises(ParityError, match="outputs depend on padding"):
        Predictor("text-classification", str(mixer), input_shapes=shapes)
    Predictor("text-classification", str(mixer), input_shapes=shapes, backend={"parity_rows": 0})


class Sums:
    """Stands for the reference: the sum of a row's tokens, with its padding or without."""

    input_names = ("input_ids", "attention_mask")

    def __init__(self, shape, is_masked, block=1):
        self.shape, self._is_masked, self._block = shape, is_masked, block

    def __call__(self, ids, mask):
        if ids.shape[1] % self._block:
            raise RuntimeError("no whole number of blocks")
        return ((ids * (mask if self._is_masked else 1)).sum(1, keepdims=True).astype(np.float32), ids * 1.0)


def measure(lengths, length=8, **how):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = Ragged(np.ones(offsets[-1], np.int64), offsets)
    rows = np.arange(len(lengths))
    items = Items(rows, np.array(lengths, np.int32), {"input_ids": ids}, {"input_ids": 1})
    return padding.measure_padding(items, length, lambda shape: Sums(shape, **how))


def test_an_error_is_relative_the_worst_and_padding_itself_is_cut_off():
    assert measure([2, 6], is_masked=True) == 0
    assert measure([8, 4], is_masked=False) == pytest.approx(4 / np.sqrt(4**2 + 4))
    assert measure([8, 8], is_masked=False) is None
    assert measure([3], is_masked=True, block=4) == float("inf")
