"""image-classification: ranks and functions by hand, and what becomes of images that are none."""

import io
import json
import os
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from batchneuron.errors import ModelError, SpecError
from batchneuron.model import Model
from batchneuron.planning.prepare import make_plan, prepare, request_ladder
from batchneuron.run import run_job
from batchneuron.spec.parse import parse_spec
from batchneuron.stages.items import Items, OutputBatch, Outputs
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import OPTIONS, open_task
from batchneuron.tasks.image_classification import ImageEncoder, Options
from batchneuron.tasks.image_processor import ImageProcessor
from batchneuron.tasks.images import UnreadableImage, read_image
from batchneuron.tasks.pixels import Pixels
from tests.faults.harness import REPOSITORY, read_rows
from tests.parity.test_image_classification import encode, make_images, paint, save_model

LABELS = {"id2label": {"0": "bad", "1": "fair", "2": "good"}}
LOGITS = [[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]]
ONE = Limit(1, "truncate")
GOOD = encode(paint(20, 30))


def make_model(config=LABELS, folder="m"):
    return Model("m", Path(folder), None, "0", config, False, None)


def make_task(config=LABELS, **options):
    return open_task("image-classification", options, make_model(config))


def head(task, logits, dtype=torch.float32):
    seen = []

    class FakeModel:
        def __init__(self):
            self.dtype = dtype

        def __call__(self, pixel_values):
            seen.append(pixel_values)
            return SimpleNamespace(logits=torch.tensor(logits, dtype=dtype))

    (scores,) = task.head(FakeModel(), {"pixel_values": torch.zeros(2, 3, 4, 4)})
    assert seen[0].dtype == dtype
    assert scores.dtype == torch.float32
    return scores


def decode(task, scores):
    scores = np.array(scores, np.float32)
    count = len(scores)
    items = Items(np.arange(count), np.ones(count, np.int32), {}, {})
    outputs = Outputs(count, (OutputBatch(np.arange(count), (scores,)),))
    decoded = task.decode(items, count, outputs)
    assert decoded.columns.schema == task.schema
    return decoded.columns["labels"].to_pylist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_of_the_logits_in_single_precision(dtype):
    exponents = np.exp(LOGITS)

    assert np.allclose(head(make_task(), LOGITS, dtype), exponents / exponents.sum(1, keepdims=True))
    sigmoid = make_task(function_to_apply="sigmoid")
    assert np.allclose(head(sigmoid, LOGITS, dtype), 1 / (1 + np.exp(-np.array(LOGITS))))
    assert head(make_task(function_to_apply="none"), LOGITS, dtype).tolist() == LOGITS
    regression = make_task(LABELS | {"problem_type": "regression"})
    assert head(regression, LOGITS, dtype).tolist() == LOGITS


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (5, 3), ("all", 3)])
def test_the_k_likeliest_in_order(top_k, count):
    labels = decode(make_task(top_k=top_k), [[0.125, 0.5, 0.375], [0.25, 0.25, 0.5]])

    assert (
        labels[0]
        == [
            {"label": "fair", "score": 0.5},
            {"label": "good", "score": 0.375},
            {"label": "bad", "score": 0.125},
        ][:count]
    )
    assert [one["label"] for one in labels[1]] == ["good", "bad", "fair"][:count]


def test_the_column():
    struct = pa.struct([("label", pa.string()), ("score", pa.float32())])

    assert make_task(top_k=1).schema == pa.schema([("labels", pa.list_(struct))])


def test_a_model_that_names_another_number_of_classes_is_refused():
    with pytest.raises(ModelError, match="scores 4 classes and names 3"):
        decode(make_task(), [[0.1, 0.2, 0.3, 0.4]])


@pytest.mark.parametrize("top_k", [0, -1, "some"])
def test_a_senseless_k_is_refused(top_k):
    with pytest.raises(ValidationError):
        Options.model_validate({"top_k": top_k})


def save_processor(folder, **settings):
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return ImageProcessor(make_model(folder=folder))


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("vit"), "vit")


@pytest.fixture(scope="module")
def encoder(vit):
    return ImageEncoder(ImageProcessor(make_model(folder=vit)))


def make_batch(encoder, images):
    items = encoder.encode(pa.table({"image": images}), ONE).items
    return items.make_input("pixel_values", np.arange(len(items)), 1)


# Whose floats come from a table, and one that does more than rescale and normalise.
BYTES = {"image_processor_type": "ViTImageProcessor", "size": {"height": 24, "width": 16}}
FLOATS = {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 24, "width": 16}}


@pytest.mark.parametrize(("settings", "dtype"), [(BYTES, np.uint8), (FLOATS, np.float32)])
def test_the_model_gets_what_its_processor_makes_bit_for_bit(settings, dtype, tmp_path):
    from transformers import AutoImageProcessor
    from transformers.image_utils import load_image

    encoder = ImageEncoder(save_processor(tmp_path, **settings))
    images = list(make_images().values())

    items = encoder.encode(pa.table({"image": images}), ONE).items
    made = items.make_input("pixel_values", np.arange(len(images)), 1)

    process = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    opened = [load_image(Image.open(io.BytesIO(image))) for image in images]
    wanted = [process(image, return_tensors="np")["pixel_values"][0] for image in opened]
    assert made.dtype == np.float32
    assert made.tobytes() == np.stack(wanted).astype(np.float32).tobytes()
    assert items.tensors["pixel_values"].values.dtype == dtype


def test_pixels_by_hand():
    levels = np.stack([np.arange(256), -np.arange(256)]).astype(np.float32)
    values = np.array([[[[1, 2]], [[3, 4]]], [[[5, 6]], [[7, 255]]]], np.uint8)
    pixels = Pixels(values, np.array([1, 0]), levels)

    made = pixels.pad(np.array([0, 0, 1]), 1, 0)

    assert made.tolist() == [[[[5, 6]], [[-7, -255]]]] * 2 + [[[[1, 2]], [[-3, -4]]]]


def test_a_processor_that_keeps_the_ratio_of_the_sides_is_refused(tmp_path):
    with pytest.raises(ModelError, match="images of several sizes"):
        save_processor(tmp_path, **BYTES | {"size": {"shortest_edge": 16}})


def test_a_folder_without_a_processor_is_refused(tmp_path):
    with pytest.raises(ModelError, match="image processor"):
        ImageProcessor(make_model(folder=tmp_path))


def test_a_processor_that_gives_other_inputs_is_refused(tmp_path):
    with pytest.raises(ModelError, match="not pixel_values alone"):
        save_processor(tmp_path, image_processor_type="ViltImageProcessor")


def make_bomb(width, height):
    """A small PNG that says it is large."""
    content = bytearray(encode(paint(1, 1)))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


def break_middle(content):
    return content[: len(content) // 2]


BROKEN = {
    "nothing": (b"", "not an image"),
    "text": (b"hello", "not an image"),
    "half a png": (break_middle(GOOD), "truncated"),
    "half a jpeg": (break_middle(encode(paint(90, 90), "JPEG")), "truncated"),
    "a bomb": (make_bomb(40_000, 40_000), "exceeds limit"),
    "a smaller bomb": (make_bomb(10_000, 10_000), "10000 x 10000 pixels are more than"),
    "a strip": (encode(Image.new("L", (1, 501))), "1 x 501 pixels: one side is over 500 times"),
    "postscript": (encode(paint(4, 4), "EPS"), "is not run"),
    "no such file": ("no/such/file.png", "no file 'no/such/file.png'"),
    "no name": ("", "no file ''"),
    "a folder": (".", "no file '.'"),
    "a device": ("/dev/zero", "no file '/dev/zero'"),
    "a name too long": ("x" * 5000, "File name too long"),
    "a null byte": ("a\0b", "no file"),
    "a bucket": ("s3://bucket/a.png", "only files of this machine"),
    "the web": ("https://example.org/a.png", "only files of this machine"),
    "not a file of images": (__file__, "not an image"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_rejected_with_the_reason(name, encoder):
    value, reason = BROKEN[name]
    good = GOOD
    if isinstance(value, str):
        good = {"bytes": GOOD, "path": None}
        value = {"bytes": None, "path": value}

    made = encoder.encode(pa.table({"image": [good, value, good]}), ONE)

    (rejection,) = made.rejections
    assert (rejection.row, rejection.code) == (1, "bad_record")
    assert reason in rejection.message
    assert "0x" not in rejection.message and len(rejection.message) < 300
    assert made.items.rows.tolist() == [0, 2]
    assert made.items.lengths.tolist() == [1, 1]
    pixels = made.items.make_input("pixel_values", np.array([0, 1]), 1)
    assert np.array_equal(pixels, make_batch(encoder, [GOOD, GOOD]))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_bytes_are_an_image_or_rejected():
    dice = np.random.default_rng(5)
    for content in make_images().values():
        for _ in range(20):
            broken = bytearray(content)
            for place in dice.integers(0, min(len(broken), 400), 3):
                broken[place] = dice.integers(0, 256)
            try:
                assert read_image(bytes(broken)).mode == "RGB"
            except UnreadableImage as error:
                assert "object at" not in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(encoder, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(GOOD)
    path.chmod(0)

    (rejection,) = encoder.encode(pa.table({"image": [str(path)]}), ONE).rejections

    assert "Permission denied" in rejection.message


def test_a_struct_of_two_nulls_is_a_null(encoder):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array([{"bytes": None, "path": None}], kind)})

    (rejection,) = encoder.encode(table, ONE).rejections

    assert rejection.code == "null_input"


def test_no_image_at_all(encoder):
    made = encoder.encode(pa.table({"image": [b"", b""]}), ONE)

    assert len(made.items) == 0 and len(made.rejections) == 2


def test_a_path_is_relative_to_the_working_directory(encoder, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(GOOD)
    monkeypatch.chdir(tmp_path)

    assert np.array_equal(make_batch(encoder, ["a.png"]), make_batch(encoder, [GOOD]))


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.uint8()), pa.struct([("data", pa.binary())])])
def test_a_column_that_can_hold_no_images_is_refused(kind, encoder):
    with pytest.raises(SpecError, match=r"input\.columns\.image"):
        encoder.encode(pa.table({"image": pa.nulls(2, kind)}), ONE)


def make_spec(tmp_path, model, rows, *overrides):
    pq.write_table(rows, tmp_path / "rows.parquet")
    text = (
        "task: image-classification\n"
        f"model: {{id: '{model}'}}\n"
        f"input: {{path: '{tmp_path / 'rows.parquet'}', columns: {{image: picture}}, keep: [id]}}\n"
        "backend: {workers: 0}\n"
        "errors: {max_rejected: 0.9}\n"
        f"output: {{path: '{tmp_path / 'out'}'}}\n"
    )
    return parse_spec(text, "images.yaml", overrides, OPTIONS)


@pytest.mark.parametrize(
    "batch_size", [4, *(pytest.param(size, marks=pytest.mark.thorough) for size in (1, 64))]
)
def test_a_broken_image_in_a_batch_leaves_the_others_as_they_are(batch_size, vit, tmp_path):
    pictures = [encode(paint(9 + row, 30, row)) for row in range(12)]
    pictures[2], pictures[5], pictures[6] = b"broken", None, break_middle(pictures[6])
    table = pa.table({"id": range(12), "picture": pictures})

    overrides = f"shapes.batch_size={batch_size}", "backend.kind=torch"
    run_job(make_spec(tmp_path, vit, table, *overrides))
    good = [row for row in range(12) if row not in (2, 5, 6)]
    alone = tmp_path / "alone"
    alone.mkdir()
    run_job(make_spec(alone, vit, table.take(good), *overrides))

    made = read_rows(tmp_path / "out")
    assert made["id"].to_pylist() == list(range(12))
    codes = [error["code"] if error else None for error in made["_error"].to_pylist()]
    assert {row: code for row, code in enumerate(codes) if code} == {
        2: "bad_record",
        5: "null_input",
        6: "bad_record",
    }
    assert [made["labels"][row].as_py() for row in (2, 5, 6)] == [None] * 3
    assert made["labels"].take(good).to_pylist() == read_rows(alone / "out")["labels"].to_pylist()
    assert all(len(row) == 5 for row in made["labels"].take(good).to_pylist())


def test_paths_are_few_bytes_and_their_shards_are_small_all_the_same(vit, tmp_path):
    rows = pa.table({"id": range(1100), "picture": [f"{row}.png" for row in range(1100)]})

    plan = make_plan(prepare(make_spec(tmp_path, vit, rows, "backend.kind=torch")))
    wished = make_plan(
        prepare(make_spec(tmp_path, vit, rows, "backend.kind=torch", "output.shard_rows=1100"))
    )

    assert [shard.rows for shard in plan.shards] == [366, 367, 367]
    assert [str(shape) for shape in plan.ladder.shapes] == ["64x1"]
    assert len(wished.shards) == 1


def test_a_batch_holds_as_many_patches_as_a_batch_of_texts_holds_tokens(vit, tmp_path):
    rows = pa.table({"id": [1], "picture": [GOOD]})
    prepared = prepare(make_spec(tmp_path, vit, rows))
    config = {**prepared.request.model.config, "image_size": 224, "patch_size": 16}
    program = replace(prepared.request, model=replace(prepared.request.model, config=config))

    request = request_ladder(prepared.spec, prepared.backend, program, 1)

    assert request.batch_slots == prepared.backend.facts.batch_slots // 197


def test_a_sequence_length_means_nothing(vit, tmp_path):
    rows = pa.table({"id": [1], "picture": [GOOD]})
    prepared = prepare(make_spec(tmp_path, vit, rows, "shapes.sequence_length=8"))

    with pytest.raises(SpecError, match="the model takes 1"):
        make_plan(prepared)


@pytest.mark.skipif(
    torch.__version__.startswith("2.9."), reason="the page's random weights are of a newer generator"
)
def test_the_example_of_the_page_is_true(tmp_path, monkeypatch):
    page = (REPOSITORY / "docs/image-classification.md").read_text()
    program, spec = (re.search(rf"```{name}\n(.*?)```", page, re.S)[1] for name in ("python", "yaml"))
    wanted = page.partition("scores shortened")[2].split("```")[1].replace("\n ", " ").strip().splitlines()
    monkeypatch.chdir(tmp_path)

    exec(program, {})
    overrides = ("backend.workers=0", "backend.precision=float32")
    run_job(parse_spec(spec, "page.yaml", overrides, OPTIONS))

    made = read_rows(tmp_path / "labels").to_pylist()
    assert len(made) == len(wanted)
    for row, line in zip(made, wanted, strict=True):
        told = json.loads(line.replace("/data/", f"{tmp_path}/"))
        assert list(row) == list(told)
        for one, shown in zip(row.pop("labels") or [], told.pop("labels") or [], strict=True):
            assert one["label"] == shown["label"]
            assert one["score"] == pytest.approx(shown["score"], abs=2e-5)
        assert row == told


def test_importing_the_task_is_light():
    code = (
        "import sys, batchneuron.tasks.image_classification;"
        "print(sorted({'torch', 'transformers', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
