"""From a spec's words to the compiler's."""

from pathlib import Path

import pytest

from batchneuron.backends.neuron_flags import (
    Chip,
    make_native_environment,
    make_trace_args,
    resolve_native_options,
    resolve_options,
)
from batchneuron.errors import BackendError

INF2, TRN2 = Chip("inf2", 1), Chip("trn2", 2)


def args(precision, chip=INF2, model_type="bert", **given):
    return make_trace_args(resolve_options(precision, chip, given), chip, model_type)


def test_float32_casts_nothing():
    assert " ".join(args("float32")) == "--target inf2 --auto-cast none --model-type transformer --optlevel 2"


def test_bfloat16_casts_matrix_products():
    wanted = "--target inf2 --auto-cast matmult --auto-cast-type bf16 --model-type transformer --optlevel 2"
    assert " ".join(args("bfloat16")) == wanted


def test_logical_cores_are_said_for_trn2_alone():
    assert "--logical-nc-config" not in args("float32")
    assert args("float32", TRN2)[:4] == ["--target", "trn2", "--logical-nc-config", "2"]


@pytest.mark.parametrize("model_type", ["wav2vec2", "levit", "mobilevit", "mobilenet_v2"])
def test_some_architectures_are_no_transformers(model_type):
    assert "--model-type" not in args("float32", model_type=model_type)


def test_the_users_options_win_and_may_be_spelt_as_flags():
    made = args("bfloat16", **{"--optlevel": 1, "auto-cast": "all", "enable_saturate_infinity": True})
    assert made == [
        *("--target", "inf2", "--auto-cast", "all", "--auto-cast-type", "bf16"),
        *("--enable-saturate-infinity", "--model-type", "transformer", "--optlevel", "1"),
    ]
    assert "--enable-saturate-infinity" not in args("float32", enable_saturate_infinity=False)
    assert "--auto-cast-type" not in args("bfloat16", auto_cast="none")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"optlvel": 1}, "did you mean 'optlevel'"),
        ({"frobnicate": 1}, "there are optlevel, auto_cast"),
        ({"optlevel": 4}, "'4' is none of 1, 2, 3"),
        ({"auto_cast": "bf16"}, "none of none, matmult, all"),
        ({"target": "trn1"}, "is said by backend.target"),
        ({"lnc": 1}, "is said by backend.logical_core_size"),
        ({"native_int64": "enabled"}, "inf2 has no native_int64"),
    ],
)
def test_what_the_compiler_lacks_is_refused(given, told):
    with pytest.raises(BackendError, match=r"backend\.compiler_args") as caught:
        resolve_options("float32", INF2, given)
    assert told in str(caught.value)


def test_optimum_neurons_spelling_is_understood():
    assert "matmult" in args("float32", auto_cast="matmul")


def test_the_native_stack_is_told_by_variables():
    options = resolve_native_options(TRN2, {"enable_fast_context_switch": True, "optlevel": "-O3"})
    assert options == {"optlevel": "3", "enable_fast_context_switch": "true", "logical_core_size": 2}
    assert make_native_environment(options) == {
        "NEURON_COMPILER_OPT_LEVEL": "-O3",
        "NEURON_CC_FLAGS": "--enable-fast-context-switch",
    }


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (True, ["--enable-mixed-precision-accumulation"]),
        (False, ["--disable-mixed-precision-accumulation"]),
    ],
)
def test_the_switch_that_is_on_by_default_is_also_switched_off(value, flags):
    given = {"enable_mixed_precision_accumulation": value}
    accumulations = [flag for flag in args("float32", **given) if flag.endswith("-accumulation")]
    native = make_native_environment(resolve_native_options(TRN2, given))

    assert accumulations == native["NEURON_CC_FLAGS"].split() == flags


def test_the_native_stack_fixes_its_casts():
    with pytest.raises(BackendError, match=r"fixes auto_cast itself\n.*backend.precision"):
        resolve_native_options(TRN2, {"auto_cast": "all"})


def test_the_page_names_every_option_and_its_values():
    """docs/neuron-reference.md, whose tables are written by hand."""
    page = (Path(__file__).parent.parent.parent / "docs/neuron-reference.md").read_text()
    with pytest.raises(BackendError) as caught:
        resolve_options("float32", INF2, {"frobnicate": 1})
    for name in caught.value.hint.removeprefix("there are ").split(", "):
        assert f"`{name}`" in page
        with pytest.raises(BackendError) as values:
            resolve_options("float32", INF2, {name: "no such value"})
        assert values.value.what.removeprefix("'no such value' is none of ") in page
