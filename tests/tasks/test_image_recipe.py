"""Image processors without transformers: of any image a recipe makes the bits that the processor makes."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from transformers import AutoImageProcessor

from batchneuron.model import resolve_model
from batchneuron.spec.sections import ModelSpec
from batchneuron.tasks.image_processor import ImageProcessor, open_processor
from batchneuron.tasks.image_recipe import Recipe, find_recipe, make_probe, read_recipe, write_recipe
from batchneuron.tasks.pixels import Pixels
from batchneuron.user_cache import user_cache
from tests.parity.test_image_classification import PROCESSORS, encode, make_images, paint

SQUARE = PROCESSORS["vit"]
CROP = {"do_center_crop": True, "crop_size": {"height": 31, "width": 30}}
SIMPLE = {
    "vit": SQUARE,
    "oblong": SQUARE | {"size": {"height": 24, "width": 40}, "resample": 0},
    "deit": SQUARE | CROP | {"image_processor_type": "DeiTImageProcessor", "resample": 3},
    "beit": PROCESSORS["beit"],
    "swin": {name: value for name, value in PROCESSORS["swin"].items() if value is not None},
    "clip": SQUARE | CROP | {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 31}},
    "bit": SQUARE
    | CROP
    | {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 36}, "do_convert_rgb": True},
    "white": SQUARE | {"do_convert_rgb": True},
}
# One keeps the middle of a size that it does not name, one does more than give each byte a number, one pads.
OTHERS = {
    "convnext": PROCESSORS["convnext"],
    "efficientnet": SQUARE | {"image_processor_type": "EfficientNetImageProcessor"},
    "clip that pads": SIMPLE["clip"] | {"size": {"shortest_edge": 20}},
}


def save_folder(folder, processor):
    """As much of a model's folder as is looked at here."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (folder / "model.safetensors").write_text("weights")
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def open_model(folder, **spec):
    return resolve_model(ModelSpec(id=str(folder), **spec), "", allow_remote_code=True)


def make_input(processor, image):
    """What the model is given."""
    pixels = Pixels(processor.make_pixels(image)[np.newaxis], np.zeros(1, np.intp), processor.levels)
    return pixels.pad(np.zeros(1, np.intp), 1, 0)[0]


def list_entries():
    return list((user_cache() / "image-processors").glob("*"))


@pytest.fixture(scope="module", params=[*SIMPLE, *OTHERS])
def both(request, tmp_path_factory):
    """The kind, ours, read back from the cache, and transformers' own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    folder = save_folder(tmp_path_factory.mktemp("model"), {**SIMPLE, **OTHERS}[request.param])
    ours = [open_processor(open_model(folder)) for _ in range(2)][1]
    patch.undo()
    theirs = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return request.param, ours, lambda image: theirs(image, return_tensors="np")["pixel_values"][0]


def require_same(ours, theirs, image):
    made, wanted = make_input(ours, image), theirs(image)
    assert made.dtype == np.float32 and made.shape == ours.shape
    assert made.tobytes() == wanted.astype(np.float32).tobytes()


def test_who_only_resizes_crops_and_maps_bytes_has_a_recipe(both):
    kind, ours, theirs = both

    assert type(ours) is (Recipe if kind in SIMPLE else ImageProcessor)
    for content in make_images().values():
        require_same(ours, theirs, ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))


@settings(max_examples=30)
@given(width=st.integers(1, 130), height=st.integers(1, 130), seed=st.integers(0, 9))
def test_images_of_any_size_have_the_processor_s_bits(both, width, height, seed):
    _, ours, theirs = both

    require_same(ours, theirs, paint(width, height, seed))


def test_who_does_otherwise_with_some_images_has_no_recipe(tmp_path):
    recipe = open_processor(open_model(save_folder(tmp_path / "m", SIMPLE["clip"])))
    told = {"size": {"shortest_edge": 31}, "resample": 2}

    def find(is_odd=lambda image: False, **changed):
        return find_recipe(
            told | changed, recipe.levels, lambda image: make_input(recipe, image) + float(is_odd(image))
        )

    assert (made := find()) is not None and write_recipe(made) == write_recipe(recipe)
    assert find(lambda image: min(image.size) > 31) is None, "larger ones"
    assert find(lambda image: max(image.size) < 31) is None, "smaller ones"
    assert find(lambda image: image.width < 31 < image.height) is None, "narrow ones"
    assert find(lambda image: image.width > 31 > image.height) is None, "wide ones"
    assert find(lambda image: np.asarray(image).max() <= 1) is None, "dark ones"
    assert find(resample=3) is None
    assert find(resample=None) is None
    assert find(size={"shortest_edge": 31, "longest_edge": 40}) is None
    assert find(size={"height": 20, "width": 20}) is None


def test_code_of_the_model_s_own_is_asked_every_time(tmp_path):
    folder = save_folder(tmp_path / "m", SQUARE)

    assert isinstance(open_processor(open_model(folder, trust_remote_code=True)), ImageProcessor)
    assert list_entries() == []


def test_an_entry_that_is_not_whole_is_made_again(tmp_path):
    model = open_model(save_folder(tmp_path / "m", SQUARE))
    wanted = write_recipe(open_processor(model))
    (entry,) = list_entries()
    whole = entry.read_text()

    for broken in ("", whole[:100], "{}", "[]", whole.replace('"levels": [[', '"levels": [[0, ')):
        entry.write_text(broken)
        assert write_recipe(open_processor(model)) == wanted
        assert entry.read_text() == whole


def test_another_processor_in_the_same_folder_is_another_entry(tmp_path):
    before = open_processor(open_model(save_folder(tmp_path / "m", SQUARE)))
    after = open_processor(open_model(save_folder(tmp_path / "m", SQUARE | {"resample": 3})))

    assert (before.resample, after.resample) == (2, 3)
    assert len(list_entries()) == 2


def test_a_recipe_survives_json(tmp_path):
    recipe = open_processor(open_model(save_folder(tmp_path / "m", SIMPLE["clip"])))

    read = read_recipe(json.loads(json.dumps(write_recipe(recipe))))

    assert read.levels.tobytes() == recipe.levels.tobytes()
    assert write_recipe(read) == write_recipe(recipe)
    assert np.array_equal(read.make_pixels(make_probe(50, 90)), recipe.make_pixels(make_probe(50, 90)))


def test_a_worker_with_a_recipe_imports_neither_torch_nor_transformers(tmp_path):
    code = """
import json, sys
import pyarrow as pa
from batchneuron.model import resolve_model
from batchneuron.spec.sections import ModelSpec
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import open_task
from batchneuron.tasks.image_processor import find_image_size

model = resolve_model(ModelSpec(id=sys.argv[1]), "")
encoder = open_task("image-classification", {}, model).open_encoder()
with open(sys.argv[2], "rb") as file:
    made = encoder.encode(pa.table({"image": [file.read(), b"broken"]}), Limit(1, "truncate"))
heavy = {"torch", "transformers"} & set(sys.modules)
print(json.dumps([len(made.items), find_image_size(model), sorted(heavy)]))
"""
    folder = save_folder(tmp_path / "m", SQUARE)
    (tmp_path / "turned.jpg").write_bytes(encode(paint(50, 40), "JPEG"))
    open_processor(open_model(folder))

    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "turned.jpg")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [1, [3, 32, 32], []]
