"""Commands about this machine: devices, doctor."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from batchneuron.cli.arguments import as_json_flag, print_record, remote_code, set_keys
from batchneuron.errors import BackendError


@click.command()
@as_json_flag
def devices(as_json: bool) -> None:
    """Show what this machine has: Neuron devices, cores and who holds them; or its CPUs."""
    from batchneuron.artifacts import default_cache
    from batchneuron.backends.survey import survey_machine
    from batchneuron.showing.render_machine import render_devices

    survey = survey_machine(default_cache())
    print_record(_list_devices(survey), render_devices(survey), as_json)


@click.command()
@click.argument("job", required=False, metavar="[JOB.yaml]")
@set_keys
@remote_code
@as_json_flag
@click.pass_context
def doctor(
    context: click.Context,
    job: str | None,
    overrides: tuple[str, ...],
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Say what is missing on this machine, or for one job on it, and the command that mends it."""
    from batchneuron.artifacts import default_cache
    from batchneuron.backends.survey import survey_machine
    from batchneuron.doctor import examine_job, examine_machine
    from batchneuron.run import load_job
    from batchneuron.showing.render_machine import render_checks

    if job is None and overrides:
        raise click.UsageError("--set overrides a key of a spec: name the spec")
    spec = load_job(job, overrides) if job is not None else None
    survey = survey_machine(default_cache())
    checks = examine_machine(survey)
    if spec is not None:
        checks += examine_job(spec, survey, allow_remote_code=trust_remote_code)
    is_well = all(check.state != "problem" for check in checks)
    record = {"is_well": is_well, "checks": [asdict(check) for check in checks]}
    print_record(record, render_checks(checks), as_json)
    if not is_well:
        context.exit(BackendError.exit_code)


def _list_devices(survey: Any) -> dict[str, Any]:
    """What scripts get; a size or price that is not known is null."""
    neuron, ours = survey.neuron, {core.index for core in survey.neuron.devices.cores}
    instance = neuron.instance
    return {
        "instance_type": neuron.devices.instance_type,
        "family": neuron.devices.family,
        "device_count": neuron.devices.device_count,
        "device_memory_bytes": neuron.devices.memory_bytes or None,
        "logical_core_size": neuron.devices.logical_core_size if neuron.everything else None,
        "found_by": neuron.found_by or None,
        "narrowed_by": neuron.narrowed_by or None,
        "trouble": str(neuron.trouble) if neuron.trouble else None,
        "on_demand_usd_per_hour": instance.on_demand_usd_per_hour if instance else None,
        "reserved_usd_per_hour": instance.reserved_usd_per_hour if instance else None,
        "prices": neuron.prices,
        "cores": [
            {
                "index": core.index,
                "device": core.device,
                "is_ours": core.index in ours,
                "cpus": list(core.cpus),
                "holders": [asdict(holder) for holder in core.holders],
            }
            for core in neuron.everything
        ],
        "cpus": survey.cpus,
        "cpu_target": survey.cpu_target,
        "has_bfloat16": survey.has_bfloat16,
        "memory_bytes": survey.memory_bytes,
    }
