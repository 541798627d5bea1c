"""A recipe: what an image processor does to every image, so that it is done without the processor.

Most resize with Pillow, keep the middle, and make a number of each byte. One that is seen to do just that is
no longer needed, and neither are transformers and torch, whose import takes a worker seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchneuron.stages.items import Tensor
from batchneuron.tasks.pixels import Pixels


@dataclass(frozen=True, slots=True)
class Recipe:
    """Resize, crop, and a number for each byte; a few lay the picture on white before."""

    size: tuple[int, int] | int
    """Height and width to resize to; one number: of the shorter side, the ratio of the sides stays."""
    resample: int
    """Pillow's number of the filter."""
    crop: tuple[int, int]
    """Height and width of the middle that is kept; it may be all."""
    levels: NDArray[np.float32]
    """What the model takes for each byte: [3, 256]"""
    whitens: bool = False
    """Whether the colour that a picture calls transparent becomes white."""

    @property
    def shape(self) -> tuple[int, ...]:
        """C, H, W of every image."""
        return len(self.levels), *self.crop

    def make_pixels(self, image: Any) -> Tensor:
        """The image at the model's size: uint8 [C, H, W]."""
        from PIL import Image

        if self.whitens and image.info.get("transparency") is not None:  # transformers: convert_to_rgb
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
        height, width = self._find_size(*image.size)
        resized = np.asarray(image.resize((width, height), Image.Resampling(self.resample)))
        top, left = (height - self.crop[0]) // 2, (width - self.crop[1]) // 2
        return np.moveaxis(resized[top : top + self.crop[0], left : left + self.crop[1]], -1, 0)

    def _find_size(self, width: int, height: int) -> tuple[int, int]:
        """Height and width to resize such an image to (transformers: get_resize_output_image_size)."""
        if not isinstance(self.size, int):
            return self.size
        longer = int(self.size * max(width, height) / min(width, height))
        return (longer, self.size) if width <= height else (self.size, longer)


def find_recipe(
    settings: Mapping[str, Any], levels: NDArray[np.float32], process: Callable[[Any], Tensor]
) -> Recipe | None:
    """The recipe of a processor; None: it does something else.

    Args:
        settings: the processor's, as it would save them.
        levels: what it makes of each byte, [3, 256].
        process: what it makes of an image: [C, H, W].
    """
    size = _read_size(settings.get("size"))
    if size is None or settings.get("resample") is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    _, *crop = process(make_probe(width, height)).shape
    if crop[0] > height or crop[1] > width:
        return None
    recipe = Recipe(size, int(settings["resample"]), (crop[0], crop[1]), levels)
    seen = [(probe, process(probe)) for probe in _iter_probes(height, width)]
    ways = (replace(recipe, whitens=whitens) for whitens in (False, True))
    return next((way for way in ways if all(_is_same(way, *each) for each in seen)), None)


def write_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON has it."""
    return {
        "size": recipe.size,
        "resample": recipe.resample,
        "crop": recipe.crop,
        "levels": recipe.levels.tolist(),
        "whitens": recipe.whitens,
    }


def read_recipe(record: Any) -> Recipe | None:
    """The recipe of such a record; None for anything else."""
    try:
        size, crop = record["size"], record["crop"]
        levels = np.array(record["levels"], dtype=np.float32).reshape(3, 256)
        size = size if isinstance(size, int) else (int(size[0]), int(size[1]))
        crop = int(crop[0]), int(crop[1])
        return Recipe(size, int(record["resample"]), crop, levels, bool(record["whitens"]))
    except (TypeError, KeyError, IndexError, ValueError):
        return None


def make_probe(width: int, height: int) -> Any:
    """An image of noise, always the same: what a processor does to it tells what it does to all."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def _read_size(said: Any) -> tuple[int, int] | int | None:
    """Of a processor's settings; None: it is none that a recipe knows."""
    match said:
        case {"height": int(height), "width": int(width), **more} if not any(more.values()):
            return height, width
        case {"shortest_edge": int(edge), **more} if not any(more.values()):
            return edge
    return None


def _iter_probes(height: int, width: int) -> Iterator[Any]:
    """Images smaller and larger than the size they are resized to, in either direction and in both."""
    from PIL import Image

    yield from (make_probe(width, height), make_probe(1, 1), make_probe(5 * width + 3, 4 * height + 1))
    for wide in (width // 2 + 1, 3 * width + 7):
        for high in (height // 3 + 1, 2 * height + 13):
            yield make_probe(wide, high)
    for value in (0, 1, 255):  # a processor may take few values for those of an image of floats
        yield Image.new("RGB", (2 * width, height + 1), (value, value, value))
    clear = Image.new("RGB", (width + 5, height), "red")
    clear.info["transparency"] = (255, 0, 0)
    yield clear


def _is_same(recipe: Recipe, image: Any, made: Tensor) -> bool:
    """Whether the recipe gives the model the bits that were made of an image."""
    ours = Pixels(recipe.make_pixels(image)[np.newaxis], np.zeros(1, np.intp), recipe.levels)
    return np.array_equal(ours.pad(np.zeros(1, np.intp), 1, 0)[0], made.astype(np.float32))
