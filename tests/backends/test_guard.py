"""The guard around compiled programs: what passes, and what is told of what does not."""

import numpy as np
import pytest

from batchneuron.backends.guard import Guard
from batchneuron.errors import ProgramError
from batchneuron.planning.shapes import Shape
from batchneuron.programs.signature import TensorSpec

INPUTS = (TensorSpec("input_ids", (2, 3), "int64"), TensorSpec("pixels", (2, 1), "float32"))
OUTPUTS = (TensorSpec("output 0", (2,), "float32"), TensorSpec("output 1", (2,), "int64"))
IDS, PIXELS = np.arange(6).reshape(2, 3), np.ones((2, 1), np.float32)


def make(call=lambda ids, pixels: (ids.sum(1) * pixels[:, 0], ids.max(1))):
    return Guard(call, Shape(2, 3), INPUTS, OUTPUTS)


def test_what_fits_passes():
    sums, highest = make()(IDS, PIXELS)
    assert sums.tolist() == [3.0, 12.0]
    assert highest.tolist() == [2, 5]
    assert make().input_names == ("input_ids", "pixels")


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.int16, np.uint64])
def test_integers_and_floats_are_given_in_the_programs_type(kind):
    seen = []
    guard = make(lambda *inputs: (seen.extend(inputs), (PIXELS[:, 0], IDS[:, 0]))[1])
    guard(np.asfortranarray(IDS.astype(kind)), PIXELS.astype(np.float64))
    assert [str(tensor.dtype) for tensor in seen] == ["int64", "float32"]
    assert seen[0].tolist() == IDS.tolist()
    assert seen[0].flags.c_contiguous


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ((IDS,), "1 inputs, and the program takes input_ids, pixels"),
        ((IDS, PIXELS, PIXELS), "3 inputs"),
        ((IDS[:1], PIXELS), r"int64 \[1, 3\] for an input that is compiled as input_ids: int64 \[2, 3\]"),
        ((IDS[:, :2], PIXELS), r"input_ids: int64 \[2, 3\]"),
        ((IDS.astype(float), PIXELS), "float64.*input_ids"),
        ((IDS, PIXELS.astype(int)), "int64.*pixels"),
        ((np.full((2, 3), 2**63, np.uint64), PIXELS), "uint64.*input_ids"),
    ],
)
def test_what_does_not_fit_never_reaches_the_program(inputs, told):
    guard = make(lambda *_: pytest.fail("it was called"))
    with pytest.raises(ProgramError, match=told):
        guard(*inputs)


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        ((PIXELS[:, 0],), "1 outputs came back, and there are 2"),
        ((PIXELS, IDS[:, 0]), r"float32 \[2, 1\] came back for output 0: float32 \[2\]"),
        ((IDS[:, 0], IDS[:, 0]), r"int64 \[2\] came back for output 0: float32"),
    ],
)
def test_what_comes_back_is_checked_too(outputs, told):
    with pytest.raises(ProgramError, match=told):
        make(lambda *_: outputs)(IDS, PIXELS)


def test_narrowed_integers_are_as_the_compiler_gives_them():
    assert make(lambda *_: (PIXELS[:, 0], IDS[:, 0].astype(np.int32)))(IDS, PIXELS)[1].tolist() == [0, 3]
