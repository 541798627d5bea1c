"""Images from what a column holds: Pillow decodes, and what costs too much or runs a program is refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchneuron.errors import Problem, SpecError
from batchneuron.rejection import Code

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


class UnreadableImage(Exception):
    """A value that no pixels can be made of, and why: a row's fate, not an error of the run."""

    def __init__(self, message: str, code: Code = "bad_record") -> None:
        super().__init__(message)
        self.code = code


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
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(_find_source(value)) as image:
            _refuse_harmful(image)
            return ImageOps.exif_transpose(image).convert("RGB")  # transformers: load_image
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
