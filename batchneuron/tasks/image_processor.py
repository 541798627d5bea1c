"""A model's image processor: transformers' own object, or what it does, as it was found out before.

transformers opens it once; what comes of that is kept in the user's cache, where a recipe can tell it.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchneuron.errors import ModelError
from batchneuron.model import Model
from batchneuron.stages.items import Tensor
from batchneuron.tasks.image_recipe import Recipe, find_recipe, make_probe, read_recipe, write_recipe
from batchneuron.tasks.pixels import Pixels
from batchneuron.user_cache import find_entry, read_entry, write_entry

_FORMAT = "1"
_PROBE_SIZES = ((37, 53), (64, 41))


class ImageProcessor:
    """A model's own image processor, held to images of one size."""

    def __init__(self, model: Model) -> None:
        from transformers import AutoImageProcessor

        try:
            # Always Pillow: torchvision, where it is installed, resizes to other bits.
            self._transformers_processor: Any = AutoImageProcessor.from_pretrained(
                model.folder,
                backend="pil",
                trust_remote_code=model.trust_remote_code,
                local_files_only=True,
            )
            probes = [make_probe(width, height) for width, height in _PROBE_SIZES]
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

    def find_recipe(self) -> Recipe | None:
        """What it does to every image; None: more than a recipe can say."""
        if self.levels is None:
            return None
        try:
            return find_recipe(self._transformers_processor.to_dict(), self.levels, self._process)
        except (TypeError, ValueError):
            return None

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


def open_processor(model: Model) -> Recipe | ImageProcessor:
    """What makes pixels of the model's images.

    Raises:
        ModelError: transformers cannot open the processor, or it makes images of several sizes.
    """
    from PIL import Image

    # Pillow loads the rarer formats on first need, and two threads in need of them at once may both
    # be told that there is no such format.
    Image.init()
    if model.trust_remote_code:  # its Python code is what it is
        return ImageProcessor(model)
    versions = (f"{name} {version(name)}" for name in ("transformers", "pillow"))
    entry = find_entry("image-processors", _FORMAT, model.digest, *versions)
    known = read_recipe(read_entry(entry))
    if known is not None:
        return known
    made = ImageProcessor(model)
    recipe = made.find_recipe()
    if recipe is None:
        return made
    write_entry(entry, write_recipe(recipe))
    return recipe


def find_image_size(model: Model) -> tuple[int, ...]:
    """Channels, height and width of what the model takes, by its image processor or its configuration.

    Raises:
        ModelError: neither says.
    """
    if (model.folder / "preprocessor_config.json").is_file():
        return open_processor(model).shape
    size, channels = model.config.get("image_size"), int(model.config.get("num_channels", 3))
    if size is None:
        raise ModelError(
            "there is no preprocessor_config.json, and config.json has no image_size",
            str(model.folder),
            "save the model's image processor into its folder",
        )
    height, width = (size, size) if isinstance(size, int) else size
    return channels, height, width
