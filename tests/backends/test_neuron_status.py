"""The runtime's messages, as issues and pages quote them, and the errors they become."""

import pytest

from batchneuron.backends.neuron_status import NAMES, Scene, find_status, translate
from batchneuron.errors import (
    ArtifactMismatch,
    BackendError,
    CoreLost,
    DeviceFault,
    DeviceMemoryFull,
    ProgramError,
)

SCENE = Scene("5", "running 8x128", lambda: "pid 4711 (python serve.py)")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("nrt_execute_repeat failed with status 1006", 1006),
        ("Out of bounds access on model, NRT_EXEC_OOB", 1006),
        ("RuntimeError: nrt_load failed, status=10, message=NRT_UNSUPPORTED_NEFF_VERSION", 10),
        ("Failed to copy tensor data. Status: 101", 101),
        ("status code 4", 4),
        ("NRT_STATUS(1202)", 1202),
        ("NRT_INVALID_HANDLE", 3),
        ("NRT_INVALID: input tensor size mismatch", 2),
        ("NRT_HW_ERR_HBM_UE", 1201),
        ("NRT_EXEC_HW_ERR_HBM_UE", 1201),
        ("NRT_EXEC_UNIT_UNRECOVERABLE", 101),
        ("nrt status 0", None),
        ("status 999", None),
        ("The following operation failed in the TorchScript interpreter", None),
    ],
)
def test_a_status_is_found_by_name_or_number(text, status):
    assert find_status(text) == status


@pytest.mark.parametrize("form", ["NRT_{name}", "nrt_execute status {code}", "status={code}"])
@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ([2, 1002, 1003, 1006], ProgramError),
        ([4, 11], DeviceMemoryFull),
        ([1, 3, 5, 7, 9, 13, 14, 15, 1004, 1005, 1100, 1204, 1206], DeviceFault),
        ([6, 101, 1200, 1201, 1202, 1203, 1205], CoreLost),
        ([10], ArtifactMismatch),
    ],
)
def test_every_status_has_its_error(codes, kind, form):
    for code in codes:
        error = translate(RuntimeError(form.format(name=NAMES[code], code=code)), SCENE)
        assert type(error) is kind
        assert f"NRT_{NAMES[code]} ({code})" in error.what
        assert error.where == "NeuronCore 5, running 8x128"


def test_all_documented_statuses_are_covered():
    assert sorted(NAMES) == [
        *(1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13, 14, 15, 101),
        *(1002, 1003, 1004, 1005, 1006, 1100, 1200, 1201, 1202, 1203, 1204, 1205, 1206),
    ]


def test_what_is_not_recognised_is_worth_another_try():
    error = translate(RuntimeError("something else " * 100), SCENE)
    assert type(error) is DeviceFault
    assert error.retryable
    assert len(error.what) < 700


@pytest.mark.parametrize(
    "text",
    [
        "ERROR NRT:nrt_allocate_neuron_cores NeuronCore(s) not available - Requested:nc1-nc1 Available:0",
        "Neuron runtime cannot be initialized; cannot determine the number of available NeuronCores",
    ],
)
def test_a_taken_core_is_told_with_who_has_it(text):
    error = translate(RuntimeError(text), SCENE)
    assert type(error) is DeviceFault
    assert "NeuronCore 5" in str(error)
    assert "pid 4711 (python serve.py)" in str(error)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Unable to determine Neuron Driver version. Please check aws-neuronx-dkms", "aws-neuronx-dkms"),
        ("Could not open the nd1", "--device=/dev/neuron0"),
    ],
)
def test_no_driver_and_no_device_are_not_tried_again(text, told):
    error = translate(RuntimeError(text), SCENE)
    assert type(error) is BackendError
    assert not error.retryable
    assert told in error.hint


def test_the_line_with_the_status_is_told_and_not_torchscripts_stack():
    text = (
        "The following operation failed in the TorchScript interpreter.\nTraceback (most recent call last):\n"
        "RuntimeError: nrt_load failed with status 4 (NRT_RESOURCE): nc0\n\nAt:\n  module.py(9): _call_impl\n"
    )
    told = "NRT_RESOURCE (4): RuntimeError: nrt_load failed with status 4 (NRT_RESOURCE): nc0"
    assert translate(RuntimeError(text), SCENE).what == told
