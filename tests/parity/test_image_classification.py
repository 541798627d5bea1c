"""Image classifiers of four architectures, random weights: a job labels images as the pipeline does."""

import io
import json
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from batchneuron.run import run_job
from batchneuron.spec.parse import parse_spec
from batchneuron.tasks import OPTIONS
from tests.faults.harness import read_rows

LABELS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu"]
CLASSES = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
PATCHES = {**LAYERS, "image_size": 32, "patch_size": 8}
ARCHITECTURES = {
    "vit": PATCHES,
    "beit": {**PATCHES, "use_relative_position_bias": True, "layer_scale_init_value": 0.5},
    "swin": {
        "image_size": 32,
        "patch_size": 4,
        "embed_dim": 16,
        "depths": [2, 1],
        "num_heads": [2, 2],
        "window_size": 4,
    },
    "convnext": {
        "num_stages": 2,
        "hidden_sizes": [16, 32],
        "depths": [1, 1],
        "image_size": 32,
        "layer_scale_init_value": 1.0,
    },
}
SQUARE = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.2],
}
# As the published models have them: beit of 2021 resizes and crops, convnext keeps the ratio of the sides.
PROCESSORS = {
    "vit": SQUARE,
    "beit": {
        **SQUARE,
        "image_processor_type": "BeitImageProcessor",
        "size": {"height": 40, "width": 40},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32},
    },
    "swin": {
        **SQUARE,
        "resample": 3,
        "image_processor_type": None,
        "feature_extractor_type": "ViTFeatureExtractor",
    },
    "convnext": {
        **SQUARE,
        "image_processor_type": "ConvNextImageProcessorFast",
        "size": {"shortest_edge": 32},
        "crop_pct": 0.875,
        "resample": 3,
    },
}


def save_model(folder, kind, **config):
    """A tiny image classifier of that architecture with its processor."""
    import torch
    from transformers import AutoConfig, AutoModelForImageClassification

    torch.manual_seed(3)
    settings = AutoConfig.for_model(kind, initializer_range=0.4, **CLASSES, **ARCHITECTURES[kind], **config)
    AutoModelForImageClassification.from_config(settings).eval().save_pretrained(folder)
    processor = {name: value for name, value in PROCESSORS[kind].items() if value is not None}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def paint(width, height, seed=0):
    """A smooth picture in RGB."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode(image, form="PNG", **settings):
    """The content of an image file."""
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def make_images():
    """Contents of image files of all kinds, by name."""
    picture = paint(61, 47)
    wide = np.linspace(0, 65535, 50 * 40).astype(np.uint16).reshape(40, 50)
    palette = picture.quantize(16)
    return {
        **{f"jpeg {w} x {h}": encode(paint(w, h, w), "JPEG") for w, h in [(61, 47), (33, 90), (7, 5)]},
        **{f"png {w} x {h}": encode(paint(w, h, h)) for w, h in [(31, 33), (99, 20), (2, 3)]},
        "1 x 1": encode(paint(1, 1)),
        "1 x 1 grey": encode(paint(1, 1).convert("L")),
        "3 x 200": encode(paint(3, 200)),
        "progressive": encode(picture, "JPEG", progressive=True),
        "grey jpeg": encode(picture.convert("L"), "JPEG"),
        "grey png": encode(picture.convert("L")),
        "grey with alpha": encode(picture.convert("LA")),
        "16-bit grey": encode(Image.fromarray(wide)),
        "one bit": encode(picture.convert("1")),
        "palette": encode(palette),
        "palette with transparency": encode(palette, transparency=3),
        "gif": encode(palette, "GIF"),
        "animation": encode(palette, "GIF", save_all=True, append_images=[paint(61, 47, 8)]),
        "alpha": encode(Image.merge("RGBA", (*picture.split(), picture.convert("L")))),
        "cmyk": encode(picture.convert("CMYK"), "JPEG"),
        "webp": encode(picture, "WEBP"),
        "tiff": encode(picture, "TIFF"),
        "bmp": encode(picture, "BMP"),
        **{f"turned {way}": encode(picture, "JPEG", exif=turned(way)) for way in range(1, 9)},
        "turned png": encode(picture, exif=turned(6)),
    }


def run(tmp_path, model, images, *overrides):
    """What a job makes of this column."""
    pq.write_table(pa.table({"image": images}), tmp_path / "rows.parquet")
    text = (
        "task: image-classification\n"
        f"model: {{id: '{model}'}}\n"
        f"input: {{path: '{tmp_path / 'rows.parquet'}', columns: {{image: image}}, keep: []}}\n"
        "shapes: {batch_size: 8}\n"
        "backend: {workers: 0, kind: torch}\n"
        f"output: {{path: '{tmp_path / 'out'}', shard_rows: 20}}\n"
    )
    run_job(parse_spec(text, "images.yaml", overrides, OPTIONS))
    return read_rows(tmp_path / "out")


def classify_all(model, images, **options):
    """What the pipeline says of each image by itself."""
    from transformers import pipeline

    classify = pipeline("image-classification", model=str(model), device=-1, dtype="float32")
    return [classify(Image.open(io.BytesIO(image)), **options) for image in images]


def require_same(made, expected):
    """The pipeline's labels of each row, and its scores within 1e-5."""
    assert made["_error"].null_count == len(expected)
    for row, wanted in zip(made["labels"].to_pylist(), expected, strict=True):
        assert [one["label"] for one in row] == [one["label"] for one in wanted]
        scores = [one["score"] for one in wanted]
        np.testing.assert_allclose([one["score"] for one in row], scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_an_architecture_labels_images_as_the_pipeline_does(kind, tmp_path):
    model, images = save_model(tmp_path / "model", kind), list(make_images().values())

    made = run(tmp_path, model, images)

    expected = classify_all(model, images)
    require_same(made, expected)
    best = [row[0]["score"] for row in expected]
    assert len({round(score, 4) for score in best}) > len(images) // 2, "the model sees no difference"


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("vit"), "vit")


@pytest.mark.parametrize(
    ("top_k", "function"), [(1, "softmax"), (3, "sigmoid"), ("all", "none"), (100, "auto")]
)
def test_options(top_k, function, vit, tmp_path):
    images = list(make_images().values())[:6]

    made = run(tmp_path, vit, images, f"options.top_k={top_k}", f"options.function_to_apply={function}")

    count = len(LABELS) if top_k == "all" else top_k
    wished = {} if function == "auto" else {"function_to_apply": function}
    require_same(made, classify_all(vit, images, top_k=count, **wished))


def test_a_model_of_many_labels_at_once(tmp_path):
    model = save_model(tmp_path / "model", "vit", problem_type="multi_label_classification")
    images = list(make_images().values())[:6]

    made = run(tmp_path, model, images)

    require_same(made, classify_all(model, images))
    assert sum(one["score"] for one in made["labels"][0].as_py()) != pytest.approx(1)


def test_half_precision_is_what_the_pipeline_has_in_half_precision(vit, tmp_path):
    from transformers import pipeline

    images = list(make_images().values())[:6]
    classify = pipeline("image-classification", model=str(vit), device=-1, dtype="bfloat16")

    made = run(tmp_path, vit, images, "backend.precision=bfloat16", "options.top_k=all")

    for row, image in zip(made["labels"].to_pylist(), images, strict=True):
        wanted = {one["label"]: one["score"] for one in classify(Image.open(io.BytesIO(image)), top_k=7)}
        for one in row:
            assert one["score"] == pytest.approx(wanted[one["label"]], abs=0.02)


def write_column(form, images, folder):
    """The same images as bytes, as paths, and as the two ways in which `datasets` keeps them."""
    paths = []
    for number, image in enumerate(images):
        paths.append(folder / f"{number}.img")
        paths[-1].write_bytes(image)
    names = [str(path) for path in paths]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    inside = [{"bytes": image, "path": "elsewhere.png"} for image in images]
    outside = [{"bytes": None, "path": name} for name in names]
    return {
        "large bytes": partial(pa.array, images, pa.large_binary()),
        "paths": partial(pa.array, names, pa.string()),
        "inside": partial(pa.array, inside, kind),
        "outside": partial(pa.array, outside, kind),
    }[form]()


@pytest.fixture(scope="module")
def bits(vit, tmp_path_factory):
    images = list(make_images().values())
    return run(tmp_path_factory.mktemp("bits"), vit, images)["labels"].to_pylist()


@pytest.mark.parametrize("form", ["large bytes", "paths", "inside", "outside"])
def test_an_image_has_the_same_bits_in_every_form(form, bits, vit, tmp_path):
    images = list(make_images().values())

    made = run(tmp_path, vit, write_column(form, images, tmp_path))

    assert made["labels"].to_pylist() == bits


@pytest.mark.parametrize("form", ["parquet", "saved"])
def test_an_image_has_the_same_bits_in_a_dataset(form, bits, vit, tmp_path):
    from datasets import Dataset, Features
    from datasets import Image as ImageFeature

    rows = [{"image": {"bytes": image, "path": None}} for image in make_images().values()]
    dataset = Dataset.from_list(rows, features=Features({"image": ImageFeature()}))
    if form == "saved":
        dataset.save_to_disk(tmp_path / "rows")
    else:
        dataset.to_parquet(tmp_path / "rows.images.parquet")
    path = tmp_path / ("rows" if form == "saved" else "rows.images.parquet")

    made = run(tmp_path, vit, [], f"input.path='{path}'")

    assert made["labels"].to_pylist() == bits
