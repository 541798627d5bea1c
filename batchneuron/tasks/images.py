"""Images to pixels: Pillow decodes, the model's own image processor resizes and normalises.

Between two stages a shard's images are held as bytes, a quarter of what the model's floats take: after
resizing a pixel has one of 256 values, and what rescaling and normalising make of each is read from a
table when a batch is made. The floats are those of the processor, bit for bit, or the table is not used.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchneuron.errors import ModelError, Problem, SpecError
from batchneuron.model import Model
from batchneuron.rejection import Code
from batchneuron.stages.items import Tensor

# What Pillow's decoders raise on bytes that are not what they say.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_IMAGE_KINDS = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_null,
)
_LONGEST_REASON = 200
# A processor that keeps the ratio of the sides makes a huge image of a strip one pixel wide.
_MAX_RATIO = 500
_PROBE_SIZES = ((37, 53), (64, 41))


class UnreadableImage(Exception):
    """A value that no pixels can be made of, and why: a row's fate, not an error of the run."""

    def __init__(self, message: str, code: Code = "bad_record") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Pixels:
    """Images of N items in one dense array; an item is one image, so there is nothing to pad."""

    values: Tensor
    """uint8, or float32 where there is no table: [A, C, H, W]"""
    places: NDArray[np.intp]
    """Where in `values` each item's image is: [N]"""
    levels: NDArray[np.float32] | None
    """What the model takes for each byte: [C, 256]; None where the values are that already."""

    def pad(self, picks: NDArray[np.intp], length: int, fill: int) -> NDArray[np.float32]:
        """The picked images as the model takes them: float32 [len(picks), C, H, W]."""
        places = self.places[picks]
        if self.levels is None:
            return self.values[places]
        batch = np.empty((len(places), *self.values.shape[1:]), dtype=np.float32)
        for image, place in zip(batch, places, strict=True):  # one by one stays in the processor's cache
            for channel, levels in enumerate(self.levels):
                image[channel] = levels[self.values[place, channel]]
        return batch


class ImageProcessor:
    """A model's own image processor, held to images of one size."""

    def __init__(self, model: Model) -> None:
        from PIL import Image
        from transformers import AutoImageProcessor

        # Pillow loads the rarer formats on first need, and two threads in need of them at once may both
        # be told that there is no such format.
        Image.init()
        try:
            # Always Pillow: torchvision, where it is installed, resizes to other bits.
            self._transformers_processor: Any = AutoImageProcessor.from_pretrained(
                model.folder,
                backend="pil",
                trust_remote_code=model.trust_remote_code,
                local_files_only=True,
            )
            probes = [_make_probe(width, height) for width, height in _PROBE_SIZES]
            floats = [self._process(probe) for probe in probes]
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise ModelError(f"the image processor cannot be used: {error}", str(model.folder)) from error
        if len({image.shape for image in floats}) > 1 or floats[0].ndim != 3:
            raise ModelError(
                f"the image processor makes images of several sizes: {floats[0].shape}, {floats[1].shape}",
                str(model.folder),
                "give size as height and width in preprocessor_config.json",
            )
        self.shape: tuple[int, ...] = floats[0].shape
        """C, H, W of every image."""
        self.levels = self._find_levels(probes, floats)
        """What the model takes for each byte, float32 [C, 256]; None: images are made floats at once."""

    def make_pixels(self, image: Any) -> Tensor:
        """The image at the model's size: [C, H, W], uint8 where there are levels, else float32."""
        if self.levels is None:
            return self._process(image).astype(np.float32, copy=False)
        return self._process(image, do_rescale=False, do_normalize=False)

    def _process(self, image: Any, **switches: bool) -> Tensor:
        made = self._transformers_processor(images=image, return_tensors="np", **switches)
        if set(made) != {"pixel_values"}:
            raise ModelError(f"the image processor gives {', '.join(made)}, not pixel_values alone")
        pixels: Tensor = made["pixel_values"][0]
        return pixels

    def _find_levels(self, probes: list[Any], floats: list[Tensor]) -> NDArray[np.float32] | None:
        """The processor's float for each byte of each channel; None unless that is all it does to bytes."""
        from PIL import Image

        ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
        try:
            whole = self._process(Image.fromarray(ramp), do_resize=False, do_center_crop=False, do_pad=False)
            pixels = [self._process(probe, do_rescale=False, do_normalize=False) for probe in probes]
        except (TypeError, ValueError):
            return None
        if whole.shape != (3, 16, 16) or any(image.dtype != np.uint8 for image in pixels):
            return None
        levels = whole.reshape(3, 256).astype(np.float32)
        places = np.arange(len(probes))
        made = Pixels(np.stack(pixels), places, levels).pad(places, 1, 0)
        return levels if np.array_equal(made, np.stack(floats).astype(np.float32)) else None


def find_image_size(model: Model) -> tuple[int, ...]:
    """Channels, height and width of what the model takes, by its image processor or its configuration.

    Raises:
        ModelError: neither says.
    """
    if (model.folder / "preprocessor_config.json").is_file():
        return ImageProcessor(model).shape
    size, channels = model.config.get("image_size"), int(model.config.get("num_channels", 3))
    if size is None:
        raise ModelError(
            "there is no preprocessor_config.json, and config.json has no image_size",
            str(model.folder),
            "save the model's image processor into its folder",
        )
    height, width = (size, size) if isinstance(size, int) else size
    return channels, height, width


def require_images(kind: pa.DataType) -> None:
    """Refuse a column that can hold no images.

    Raises:
        SpecError: neither bytes, nor paths, nor the struct of both that `datasets` calls Image.
    """
    names = {field.name for field in kind} if pa.types.is_struct(kind) else set()
    if names & {"bytes", "path"} or any(is_kind(kind) for is_kind in _IMAGE_KINDS):
        return
    hint = "it takes bytes, paths, or a struct of `bytes` and `path`"
    raise SpecError((Problem("spec", "input.columns.image", f"the column is {kind}", hint),))


def read_image(value: bytes | str | Mapping[str, Any]) -> Any:
    """The image, upright and in RGB: a `PIL.Image.Image`.

    Args:
        value: a file's content, its path, or both by name, of which the content counts.

    Raises:
        UnreadableImage: there is no such file, it is no image, a broken one, or too large.
    """
    from PIL import Image, UnidentifiedImageError
    from transformers.image_utils import load_image

    try:
        with Image.open(_find_source(value)) as image:
            _refuse_harmful(image)
            return load_image(image)
    except UnidentifiedImageError as error:
        raise UnreadableImage("not an image in a format that Pillow reads") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(str(error)) from error
    except _BROKEN as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UnreadableImage(f"the image cannot be read: {reason[:_LONGEST_REASON]}") from error


def _find_source(value: bytes | str | Mapping[str, Any]) -> io.BytesIO | Path:
    """What Pillow opens."""
    if isinstance(value, Mapping):
        held = [value[name] for name in ("bytes", "path") if value.get(name) is not None]
        if not held:
            raise UnreadableImage("'image' has neither bytes nor a path", "null_input")
        return _find_source(held[0])
    return io.BytesIO(value) if isinstance(value, bytes) else _find_file(value)


def _find_file(path: str) -> Path:
    shown = repr(path[:_LONGEST_REASON])
    if "://" in path:
        raise UnreadableImage(f"{shown} is not read: only files of this machine are")
    try:
        if Path(path).is_file():  # a pipe would be waited for, and /dev/zero never ends
            return Path(path)
    except OSError as error:
        raise UnreadableImage(f"no file {shown}: {error.strerror}") from error
    raise UnreadableImage(f"no file {shown}")


def _refuse_harmful(image: Any) -> None:
    """Refuse, by its header alone, an image that costs too much to decode, or runs a program."""
    from PIL import Image

    width, height = image.size
    if image.format == "EPS":
        raise UnreadableImage("EPS is a program, and is not run")
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise UnreadableImage(f"{width} x {height} pixels are more than {Image.MAX_IMAGE_PIXELS}")
    if max(width, height) > _MAX_RATIO * min(width, height):
        raise UnreadableImage(f"{width} x {height} pixels: one side is over {_MAX_RATIO} times the other")


def _make_probe(width: int, height: int) -> Any:
    """An image of noise, always the same: what a processor does to it tells what it does to all."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)
