"""Parity: the gate between compiling and the first shard, where programs are held against the reference.

A compiler may ignore the attention mask, or turn its smallest number into NaN, without a word: what it
made is believed once it has given the reference's predictions. What was found stays beside the artifact,
so that each is measured once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from batchneuron.artifacts import Artifact
from batchneuron.backends.backend import BackendFacts
from batchneuron.errors import ParityError
from batchneuron.planning.plan import Shard
from batchneuron.programs.agreement import Parity, find_excesses, find_tolerance
from batchneuron.programs.measure import Verdict, measure
from batchneuron.programs.padding import require_alike
from batchneuron.programs.sample import call_on_sample
from batchneuron.spec.sections import BackendSpec
from batchneuron.workers.aside import Aside
from batchneuron.workers.work_order import WorkOrder

_SHARED_PROBES = 4


def check_parity(order: WorkOrder, facts: BackendFacts, shards: Sequence[Shard], aside: Aside) -> Parity:
    """How the programs of a job agree with the reference, measured where that is not known yet.

    Args:
        order: the job, its artifacts compiled.
        facts: the backend's.
        shards: all shards of the plan, as `split_at_blocks` gives them.
        aside: where to run.

    Raises:
        ParityError: one of them does not agree, or the model's outputs depend on padding.
        BatchNeuronError: whatever would stop the job itself.
    """
    spec = order.spec.backend
    parity = read_parity(order.artifacts, facts, spec)
    if parity is not None:
        require_parity(parity, facts)
        return parity
    tolerance = find_tolerance(facts.precision, spec.parity_tolerance)
    new = list_unchecked(order.artifacts, facts, spec)
    wanted = replace(order, artifacts=new)
    measured = call_on_sample(
        lambda sample: functools.partial(measure, wanted, sample, tolerance),
        shards,
        aside,
        "parity check",
        "set backend.parity_rows: 0",
    )
    verdicts = dict(zip(new, measured, strict=True))
    for artifact, verdict in verdicts.items():
        require_alike(verdict.found.padding_error, order.request.model.id)
        if verdict.found.agreement.rows and not find_excesses(verdict.found.agreement, tolerance):
            _keep_verdict(artifact, verdict)
    probes = choose_probes(order.artifacts, facts)
    known = [verdicts.get(one) or _read_verdict(one, spec.parity_rows) for one in probes]
    parity = Parity("measured", tolerance, tuple(verdict.found for verdict in known if verdict))
    require_parity(parity, facts)
    return parity


def list_unchecked(
    artifacts: Sequence[Artifact], facts: BackendFacts, spec: BackendSpec
) -> tuple[Artifact, ...]:
    """Those that have to be held against the reference."""
    if facts.is_reference or not spec.parity_rows:
        return ()
    probes = choose_probes(artifacts, facts)
    return tuple(artifact for artifact in probes if _read_verdict(artifact, spec.parity_rows) is None)


def choose_probes(artifacts: Sequence[Artifact], facts: BackendFacts) -> tuple[Artifact, ...]:
    """Those that tell how all agree: each one; of shapes that share a program, some of all lengths."""
    if facts.compiles_per_shape or len(artifacts) <= _SHARED_PROBES:
        return tuple(artifacts)
    last = len(artifacts) - 1
    return tuple(artifacts[last * step // (_SHARED_PROBES - 1)] for step in range(_SHARED_PROBES))


def read_parity(artifacts: Sequence[Artifact], facts: BackendFacts, spec: BackendSpec) -> Parity | None:
    """What is known without measuring; None: an artifact has not been held against the reference yet."""
    if facts.is_reference:
        return Parity("reference")
    if not spec.parity_rows:
        return Parity("off")
    known = [_read_verdict(artifact, spec.parity_rows) for artifact in choose_probes(artifacts, facts)]
    found = tuple(verdict.found for verdict in known if verdict is not None)
    tolerance = find_tolerance(facts.precision, spec.parity_tolerance)
    return Parity("measured", tolerance, found) if len(found) == len(known) else None


def require_parity(parity: Parity, facts: BackendFacts) -> None:
    """Hold what was found against the tolerance.

    Raises:
        ParityError: with the figures of each shape that does not agree.
    """
    if parity.tolerance is None:
        return
    lines = []
    for shape in parity.shapes:
        excesses = find_excesses(shape.agreement, parity.tolerance)
        if excesses:
            rows = " and ".join(map(str, shape.worst_rows))
            lines.append(f"    shape {shape.shape}, {shape.agreement.rows} rows; rows {rows} agree least:")
            lines += [f"        {excess}" for excess in excesses]
    if lines:
        raise ParityError(
            "the compiled program does not agree with the reference\n" + "\n".join(lines),
            f"{facts.kind} {facts.precision}",
            _advise(facts.precision),
        )


def _advise(precision: str) -> str:
    if precision == "float32":
        return (
            "float32 should agree: please report these figures with the model and the versions; "
            "backend.kind: torch runs it meanwhile"
        )
    return (
        "set backend.precision: float32; where labels alone differ too often, backend.parity_tolerance "
        "allows more; if float32 does not agree either, please report these figures"
    )


def _verdict_path(artifact: Artifact) -> Path:
    return artifact.folder / f"parity-{artifact.shape}.json"


def _read_verdict(artifact: Artifact, rows_wished: int) -> Verdict | None:
    """What lies beside the artifact, if it was found with as many rows."""
    with suppress(OSError, ValidationError):
        verdict = TypeAdapter(Verdict).validate_json(_verdict_path(artifact).read_bytes())
        if verdict.rows_wished >= rows_wished and verdict.found.shape == str(artifact.shape):
            return verdict
    return None


def _keep_verdict(artifact: Artifact, verdict: Verdict) -> None:
    """Leave it beside the artifact; where that cannot be written, a later run measures again."""
    path = _verdict_path(artifact)
    with suppress(OSError):
        scratch = path.with_suffix(".new")
        scratch.write_bytes(TypeAdapter(Verdict).dump_json(verdict, indent=2))
        scratch.replace(path)
