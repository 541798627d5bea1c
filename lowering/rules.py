"""What a lowered program may look like: the documented limits of neuronx-cc, checked one by one."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from lowering.hlo import Instruction, Module, find_source, is_known
from lowering.outcome import Finding

_REDUCTIONS = {"add", "maximum", "minimum", "multiply"}
_BFLOAT16_MAX = 3.3895e38


@cache
def read_operators() -> Mapping[str, str]:
    """`operators.toml` as one word for each opcode: listed, reviewed or refused."""
    with (Path(__file__).parent / "operators.toml").open("rb") as file:
        table = tomllib.load(file)
    return {
        **dict.fromkeys(table["listed"], "listed"),
        **dict.fromkeys(table["reviewed"], "reviewed"),
        **dict.fromkeys(table["refused"], "refused"),
    }


def check_module(module: Module) -> Iterator[Finding]:
    """What is wrong with a module, or worth knowing, whatever program it is."""
    known = read_operators()
    for opcode in sorted(module.count_opcodes()):
        if known.get(opcode) == "refused":
            yield Finding("red", f"{opcode} is refused by the compiler")
        elif opcode not in known:
            yield Finding("red", f"{opcode} is not in operators.toml: nobody has looked at it yet")
    if any(instruction.is_dynamic for instruction in module.iter_instructions()):
        yield Finding("red", "a dynamic dimension (NCC_EMOD025)")
    if others := sorted(module.list_reductions() - _REDUCTIONS):
        yield Finding("red", f"a reduction by {', '.join(others)}: only add, max, min and mul are supported")
    yield from _check_doubles(module)
    yield from _check_constants(module)
    yield from _check_operands(module)


def check_number(number: float, what: str) -> Iterator[Finding]:
    """A number that is infinite, or becomes so where the compiler computes in bfloat16 (--auto-cast all)."""
    if math.isinf(number) or math.isnan(number):
        yield Finding("red", f"{what} is {number}: a transpose by a matrix product makes NaN of it")
    elif abs(number) > _BFLOAT16_MAX:
        yield Finding("yellow", f"{what} is {number:.4g}, infinite in bfloat16 (--auto-cast all)")


def _check_doubles(module: Module) -> Iterator[Finding]:
    doubles = [
        shape
        for instruction in module.iter_instructions()
        for shape in instruction.shapes
        if shape["elementType"] in {"F64", "C64", "C128"}
    ]
    if any(shape.get("dimensions") for shape in doubles):
        yield Finding("red", "a float64 tensor (NCC_ESPP004)")
    elif doubles:
        yield Finding("yellow", "a float64 number, converted to float32 at once")


def _check_constants(module: Module) -> Iterator[Finding]:
    harmless = module.list_harmless()
    for instruction in module.iter_instructions():
        if instruction.opcode == "constant" and instruction.raw["name"] not in harmless:
            for number in set(instruction.list_numbers()):
                yield from check_number(number, "a constant")


def _check_operands(module: Module) -> Iterator[Finding]:
    """Limits that the table of supported operators notes for Gather, Pow and dynamic slices."""
    by_id = {instruction.raw["id"]: instruction for instruction in module.iter_instructions()}
    for instruction in by_id.values():
        if instruction.opcode == "gather":
            numbers = instruction.raw["gatherDimensionNumbers"]
            if not set(numbers["startIndexMap"]) <= set(numbers.get("collapsedSliceDims", ())):
                yield Finding("red", "a gather whose start_index_map and offset dimensions are not disjoint")
        if instruction.opcode == "dynamic-slice" and not all(
            is_known(place, by_id) for place in instruction.raw["operandIds"][1:]
        ):
            yield Finding("red", "a slice that starts where a value says")
        if instruction.opcode == "power" and not _is_number(instruction.raw["operandIds"][1], by_id):
            yield Finding("red", "a power whose exponent is computed")


def _is_number(place: str, by_id: Mapping[str, Instruction]) -> bool:
    """Whether an operand is a number that is known when it is compiled."""
    source = by_id[find_source(place, by_id)]
    return source.opcode == "constant" or (
        source.opcode == "parameter" and not source.raw["shape"].get("dimensions")
    )
