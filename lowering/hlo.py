"""An HLO module as torch_xla lowered it: its instructions, and what they say about shapes and types."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

# Names of HLO's types, as far as torch_xla gives them.
TYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "S64",
    torch.int32: "S32",
    torch.bool: "PRED",
}


_PASSED_THROUGH = {"broadcast", "reshape", "convert"}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One HLO instruction."""

    raw: Mapping[str, Any]

    @property
    def opcode(self) -> str:
        """As HLO spells it: batch-norm-training."""
        return str(self.raw["opcode"])

    @property
    def shapes(self) -> list[Mapping[str, Any]]:
        """Shapes of what it gives: several for a tuple."""
        shape = self.raw["shape"]
        return list(shape.get("tupleShapes", [shape]))

    @property
    def is_dynamic(self) -> bool:
        """Whether any dimension is known only when it runs."""
        return any(flag for shape in self.shapes for flag in shape.get("isDynamicDimension", ()))

    def list_numbers(self) -> list[float]:
        """Floating-point numbers of a constant."""
        literal = self.raw.get("literal", {})
        return [float(number) for name in ("f32s", "f64s") for number in literal.get(name, ())]


@dataclass(frozen=True, slots=True)
class Module:
    """A lowered program."""

    raw: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> Module:
        """The module of a `LoweringContext.hlo_json()`."""
        return cls(json.loads(text))

    def iter_instructions(self, *, entry_only: bool = False) -> Iterator[Instruction]:
        """All instructions; or those of the entry computation alone, without what reductions call."""
        for computation in self.raw["computations"]:
            if not entry_only or computation["id"] == self.raw["entryComputationId"]:
                yield from map(Instruction, computation["instructions"])

    def count_opcodes(self) -> Counter[str]:
        """How often each opcode is there."""
        return Counter(instruction.opcode for instruction in self.iter_instructions())

    def list_parameters(self) -> dict[int, tuple[str, tuple[int, ...]]]:
        """Type and shape of each parameter, by its number."""
        return {
            int(instruction.raw.get("parameterNumber", 0)): _read_shape(instruction.raw["shape"])
            for instruction in self.iter_instructions(entry_only=True)
            if instruction.opcode == "parameter"
        }

    def name_parameters(self) -> dict[int, str]:
        """The instruction's name of each parameter, by its number."""
        return {
            int(instruction.raw.get("parameterNumber", 0)): str(instruction.raw["name"])
            for instruction in self.iter_instructions(entry_only=True)
            if instruction.opcode == "parameter"
        }

    def list_results(self) -> list[tuple[str, tuple[int, ...]]]:
        """Type and shape of each result."""
        return [_read_shape(shape) for shape in self.raw["hostProgramShape"]["result"]["tupleShapes"]]

    def list_reductions(self) -> set[str]:
        """What reductions compute: the opcode at the root of each computation that they call."""
        computations = {computation["id"]: computation for computation in self.raw["computations"]}
        roots: set[str] = set()
        for instruction in self.iter_instructions():
            if instruction.opcode in {"reduce", "reduce-window"}:
                called = computations[instruction.raw["calledComputationIds"][0]]
                opcodes = {each["id"]: each["opcode"] for each in called["instructions"]}
                roots.add(opcodes[called["rootId"]])
        return roots

    def list_harmless(self) -> set[str]:
        """Names of constants, and of parameters that are numbers, that may be infinite or NaN.

        -infinity is right as the start of a maximum, the largest float32 for a clamp without an upper end. A
        mean has NaN for the case that there is nothing to average, which is decided when it is compiled.
        """
        by_id = {each.raw["id"]: each for each in self.iter_instructions()}
        harmless: list[str] = []
        for each in by_id.values():
            operands = each.raw.get("operandIds", [])
            if each.opcode in {"reduce", "reduce-window"}:
                harmless.append(operands[-1])
            elif each.opcode == "clamp":
                harmless += (operands[0], operands[2])
            elif each.opcode == "select" and is_known(operands[0], by_id):
                harmless += operands[1:]
        return {str(by_id[find_source(place, by_id)].raw["name"]) for place in harmless}


def is_known(place: str, by_id: Mapping[str, Instruction]) -> bool:
    """Whether an operand depends on constants alone."""
    pending, seen = [place], {place}
    while pending:
        each = by_id[pending.pop()]
        if each.opcode == "parameter":
            return False
        new = set(each.raw.get("operandIds", ())) - seen
        seen |= new
        pending += new
    return True


def find_source(place: str, by_id: Mapping[str, Instruction]) -> str:
    """What an operand is made of, looked up through broadcasts, reshapes and conversions."""
    while by_id[place].opcode in _PASSED_THROUGH:
        place = by_id[place].raw["operandIds"][0]
    return place


def _read_shape(shape: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    return str(shape["elementType"]), tuple(int(size) for size in shape.get("dimensions", ()))
