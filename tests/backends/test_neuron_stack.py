"""Which stack is installed, and what is said where it does not fit the chip."""

import pytest

from batchneuron.backends.neuron_stack import choose_backend, find_stack, require_compiler, require_stack
from batchneuron.errors import BackendError

TRACE = {"torch-neuronx": "2.9.0.2.15.32035", "neuronx-cc": "2.28.7631.0", "torch": "2.9.1"}
NATIVE = {"torch-neuronx": "2.14.3.0.21584+d2", "neuronx-cc": "2.28.7631.0", "torch": "2.14.0+cpu"}
STUB = {"torch-neuronx": "1.0", "neuronx-cc": "1.0", "torch": "2.13.0"}
NEURON_INDEX = "--extra-index-url https://pip.repos.neuron.amazonaws.com"


def stack(versions):
    return find_stack(versions.get)


@pytest.mark.parametrize(
    ("versions", "kind", "has_compiler"),
    [
        ({}, "none", False),
        ({"torch": "2.13.0"}, "none", False),
        (STUB, "stub", False),
        (TRACE, "trace", True),
        ({**TRACE, "torch-neuronx": "2.1.2.2.3"}, "trace", True),
        ({**TRACE, "torch-neuronx": "1.13.1.1.15"}, "trace", True),
        ({**TRACE, "neuronx-cc": "1.0"}, "trace", False),
        (NATIVE, "native", True),
        ({**NATIVE, "torch-neuronx": "2.13.3.0"}, "native", True),
    ],
)
def test_the_version_tells_the_stack(versions, kind, has_compiler):
    found = stack(versions)
    assert (found.kind, found.has_compiler, dict(found.versions)) == (kind, has_compiler, versions)


def test_families_have_their_backend():
    families = ["inf2", "trn1", "trn1n", "trn2", "trn3"]
    assert [choose_backend(name) for name in families] == [*["neuron-trace"] * 3, *["neuron"] * 2]


@pytest.mark.parametrize(
    ("versions", "backend", "family"),
    [
        (TRACE, "neuron-trace", "inf2"),
        (TRACE, "neuron-trace", "trn2"),
        (NATIVE, "neuron", "trn2"),
        (NATIVE, "neuron", "trn3"),
    ],
)
def test_what_fits_is_let_through(versions, backend, family):
    require_stack(stack(versions), backend, family)
    require_compiler(stack(versions), backend)


@pytest.mark.parametrize(
    ("versions", "backend", "family", "told", "command"),
    [
        ({}, "neuron-trace", "inf2", "no torch-neuronx", "torch-neuronx==2.9.0.2.15.32035"),
        (STUB, "neuron-trace", "inf2", "placeholder", "torch-neuronx==2.9.0.2.15.32035"),
        (NATIVE, "neuron-trace", "trn1", "2.14.3.0", "torch-neuronx==2.9.0.2.15.32035"),
        (NATIVE, "neuron", "inf2", "takes 'neuron-trace'", "torch-neuronx==2.9.0.2.15.32035"),
        (TRACE, "neuron", "trn2", "2.9.0.2.15", "torch-neuronx==2.14.*"),
        (TRACE, "neuron-trace", "trn3", "takes 'neuron'", "torch-neuronx==2.14.*"),
        ({**NATIVE, "torch": "2.13.0"}, "neuron", "trn2", "belongs to torch 2.14", "torch-neuronx==2.14.*"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_command(versions, backend, family, told, command):
    with pytest.raises(BackendError) as caught:
        require_stack(stack(versions), backend, family)
    text = str(caught.value)
    assert told in text
    assert f'pip install "{command}" "neuronx-cc==2.*"' in text
    assert NEURON_INDEX in text


def test_the_right_stack_with_the_wrong_kind_needs_no_installation():
    with pytest.raises(BackendError) as caught:
        require_stack(stack(TRACE), "neuron", "inf2")
    assert caught.value.hint == "say kind: neuron-trace"


def test_compiling_needs_the_compiler():
    with pytest.raises(BackendError, match="compiling needs neuronx-cc"):
        require_compiler(stack({**TRACE, "neuronx-cc": "1.0"}), "neuron-trace")
