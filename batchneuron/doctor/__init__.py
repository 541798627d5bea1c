"""What is missing on this machine, and the command that mends it.

check.py      one finding: ok, warning or problem, and what to do
machine.py    Python, memory, disks, the hub, the CPU backends
neuron.py     driver, devices, the stack, the compiler
job.py        whether one spec can run here
"""

from __future__ import annotations

from batchneuron.backends.survey import Survey
from batchneuron.doctor.check import Check
from batchneuron.doctor.job import examine_job
from batchneuron.doctor.machine import CHECKS as _MACHINE
from batchneuron.doctor.neuron import CHECKS as _NEURON

__all__ = ["Check", "examine_job", "examine_machine"]


def examine_machine(survey: Survey) -> tuple[Check, ...]:
    """Every check that applies to this machine, in the order in which to mend things."""
    found = (check(survey) for check in (*_MACHINE, *_NEURON))
    return tuple(check for check in found if check is not None)
