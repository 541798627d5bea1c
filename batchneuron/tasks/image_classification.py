"""image-classification: the k likeliest labels of an image.

Semantics of `transformers.pipeline("image-classification")`: images are decoded, turned upright, made RGB
and put through the model's own image processor; the function applied to the logits follows the model's
configuration unless `function_to_apply` names one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from batchneuron.model import Model
from batchneuron.rejection import Rejection
from batchneuron.spec.sections import PositiveInt
from batchneuron.stages.items import Items, Outputs, TaskItems
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks.image_processor import ImageProcessor, find_image_size, open_processor
from batchneuron.tasks.image_recipe import Recipe
from batchneuron.tasks.images import UnreadableImage, read_image, require_images
from batchneuron.tasks.labels import LABEL, Function, apply_function, choose_function, rank_labels
from batchneuron.tasks.pixels import Pixels
from batchneuron.tasks.task import Decoded, TaskKind, TaskOptions

_MAX_THREADS = 8


class Options(TaskOptions):
    """Options of image-classification."""

    top_k: PositiveInt | Literal["all"] = Field(5, description="How many labels; 'all': every class.")
    function_to_apply: Function | Literal["auto"] = Field(
        "auto", description="What turns logits into scores; auto: as the model's configuration says."
    )


@dataclass(frozen=True, slots=True)
class ImageEncoder:
    """Images to items, one each, all of one size."""

    processor: Recipe | ImageProcessor

    @property
    def model_limit_tokens(self) -> int:
        """One: an image is one item of length 1, whatever a model cuts it into."""
        return 1

    def encode(self, inputs: pa.Table, limit: Limit) -> TaskItems:
        """One item per image that can be read; the others are rejected with the reason.

        Raises:
            SpecError: the column can hold no images.
        """
        column = inputs["image"]
        require_images(column.type)
        dtype = np.float32 if self.processor.levels is None else np.uint8
        values = np.empty((len(column), *self.processor.shape), dtype=dtype)

        def fill(row: int) -> Rejection | None:
            try:
                values[row] = self.processor.make_pixels(read_image(column[row].as_py()))
            except UnreadableImage as error:
                return Rejection(row, error.code, str(error))
            return None

        # Pillow lets go of the interpreter while it decodes and resizes.
        with ThreadPoolExecutor(_count_threads(), "image") as pool:
            rejections = tuple(made for made in pool.map(fill, range(len(column))) if made is not None)
        rows = np.setdiff1d(np.arange(len(column)), [rejection.row for rejection in rejections])
        return TaskItems(
            items=Items(
                rows=rows.astype(np.int64),
                lengths=np.ones(len(rows), dtype=np.int32),
                tensors={"pixel_values": Pixels(values, rows.astype(np.intp), self.processor.levels)},
                fills={},
            ),
            truncated=np.zeros(len(column), dtype=np.bool_),
            rejections=rejections,
        )


@dataclass(frozen=True, slots=True)
class ImageClassification:
    """Labels of images."""

    model: Model
    options: Options
    opened: ImageEncoder | None = None
    """Has the image processor of the model open already; None: it is opened here."""

    @property
    def schema(self) -> pa.Schema:
        """`labels`: a list of label and score, likeliest first."""
        return pa.schema([("labels", pa.list_(LABEL))])

    def open_encoder(self) -> ImageEncoder:
        """The model's image processor."""
        return ImageEncoder(self.opened.processor if self.opened else open_processor(self.model))

    def head(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Scores of all classes: float32 [B, C]."""
        function = choose_function(self.model, self.options.function_to_apply)
        logits = model(pixel_values=inputs["pixel_values"].to(model.dtype)).logits
        return (apply_function(logits, function),)

    def decode(self, items: Items, rows: int, outputs: Outputs) -> Decoded:
        """The k best classes of each row; equal scores in the order of the classes."""
        best = rank_labels(outputs.stack(0), self.model, self.options.top_k)
        return Decoded(pa.table([best.as_lists()], schema=self.schema))


def _count_threads() -> int:
    """One for each CPU of this worker, and no more than that many large images in memory at once."""
    return min(_MAX_THREADS, len(os.sched_getaffinity(0)))


KIND = TaskKind(
    name="image-classification",
    inputs=("image",),
    optional_inputs=(),
    default_model="google/vit-base-patch16-224",
    auto_model="AutoModelForImageClassification",
    options=Options,
    open=ImageClassification,
    raw_inputs=("image",),
    program_inputs=("pixel_values",),
    optional_program_inputs=(),
    input_sizes=lambda model: {"pixel_values": find_image_size(model)},
    libraries=("pillow",),
    max_shard_rows=512,
)
