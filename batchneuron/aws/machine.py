"""What an instance type gives one job: chips, CPUs, memory, price."""

from __future__ import annotations

from dataclasses import dataclass

from batchneuron.aws.clients import Aws, asking
from batchneuron.backends.neuron_chips import Instance, find_instance, list_families, name_family
from batchneuron.backends.neuron_stack import choose_backend
from batchneuron.errors import Problem, SpecError
from batchneuron.spec.sections import BackendSpec, JobSpec

# An instance registers less memory with ECS than it has: the kernel and the firmware keep some (Batch user
# guide: "Compute resource memory management"), and a job that asks for more is never placed. The guide's
# m4.large loses 2.5%; what the agent reserves is 32 MiB.
_KEPT_SHARE = 0.04
_KEPT_LEAST_MIB = 768


@dataclass(frozen=True, slots=True)
class Machine:
    """One instance type."""

    name: str
    family: str | None
    """Neuron chips of that family; None: it has none."""
    chips: int
    vcpus: int
    memory_mib: int
    on_demand_usd_per_hour: float | None
    """us-east-1; None where it is not known."""

    @property
    def job_memory_mib(self) -> int:
        """What one job that takes all of it may ask for."""
        return self.memory_mib - max(_KEPT_LEAST_MIB, int(self.memory_mib * _KEPT_SHARE))

    def count_workers(self, spec: BackendSpec) -> int:
        """Workers that a job has on it: one for each logical core, unless the spec says."""
        if self.family is None:
            return self.vcpus if spec.workers == "auto" else max(1, spec.workers)
        family = list_families()[self.family]
        wished = spec.logical_core_size
        size = family.logical_core_sizes[0] if wished == "auto" else wished
        cores = self.chips * family.physical_cores_per_chip // size
        return cores if spec.workers == "auto" else max(1, min(cores, spec.workers))


def find_machine(name: str, aws: Aws | None) -> Machine:
    """What is known of an instance type; AWS is asked about one that is not in our table, or not all of it.

    Raises:
        BackendError: AWS does not know it either.
        AwsForbidden: it may not be asked.
    """
    known = find_instance(name)
    if known is not None and known.host_bytes is not None:
        return _describe(known, known.host_bytes >> 20)
    if aws is None:
        lacks = "is not in our table" if known is None else "has no host memory in our table"
        raise SpecError((Problem("--instance-type", "", f"'{name}' {lacks}, and AWS is not asked"),))
    with asking(f"instance type {name}"):
        found = aws.open_service("ec2").describe_instance_types(InstanceTypes=[name])["InstanceTypes"][0]
    memory_mib = found["MemoryInfo"]["SizeInMiB"]
    if known is not None:
        return _describe(known, memory_mib)
    chips = sum(device["Count"] for device in found.get("NeuronInfo", {}).get("NeuronDevices", ()))
    family = name_family(name) if chips else None
    return Machine(name, family, chips, found["VCpuInfo"]["DefaultVCpus"], memory_mib, None)


def _describe(known: Instance, memory_mib: int) -> Machine:
    price = known.on_demand_usd_per_hour
    return Machine(known.name, known.family, known.chips, known.vcpus, memory_mib, price)


def fit_spec(spec: JobSpec, machine: Machine) -> JobSpec:
    """The spec with the backend and the chip of the machine that will run it.

    Raises:
        SpecError: the spec names others.
    """
    given = spec.backend
    kind = choose_backend(machine.family) if machine.family else "cpu"
    problems = []
    # One may insist on the older stack on Trn2, and on the reference anywhere.
    fitting = {"auto", kind, "torch", *({"neuron-trace"} if machine.family == "trn2" else ())}
    if machine.family and given.kind == "cpu":
        fitting.add("cpu")
    if given.kind not in fitting:
        problems.append(Problem("spec", "backend.kind", f"is {given.kind}, and {machine.name} takes {kind}"))
    chip = given.target
    if given.kind not in ("cpu", "torch") and chip not in ("auto", machine.family):
        problems.append(
            Problem("spec", "backend.target", f"is {chip}, and {machine.name} is {machine.family}")
        )
    if problems:
        raise SpecError(tuple(problems))
    settled: dict[str, str] = {"kind": kind if given.kind == "auto" else given.kind}
    if machine.family and settled["kind"].startswith("neuron"):
        settled["target"] = machine.family
    return spec.model_copy(update={"backend": given.model_copy(update=settled)})
