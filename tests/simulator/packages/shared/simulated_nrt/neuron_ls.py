"""The simulated neuron-ls: SDK `tools/neuron-sys-tools/neuron-ls`."""

import argparse
import json
import sys

from simulated_nrt.cores import find_owner
from simulated_nrt.machine import read_logical_core_size, read_machine


def main():
    parser = argparse.ArgumentParser(prog="neuron-ls")
    parser.add_argument("-j", "--json-output", action="store_true")
    arguments = parser.parse_args()
    machine = read_machine()
    if not machine.family:
        sys.stderr.write("neuron-ls: No neuron devices found\n")
        return 1
    size = read_logical_core_size()
    devices = [_describe(machine, number, size) for number in range(machine.devices)]
    if arguments.json_output:
        sys.stdout.write(json.dumps(devices, indent=4) + "\n")
    else:
        sys.stdout.write(f"instance-type: {machine.instance_type}\n{len(devices)} devices\n")
    return 0


def _describe(machine, number, logical_core_size):
    per_device = machine.cores_per_device(logical_core_size)
    ids = list(range(number * per_device, (number + 1) * per_device))
    owners = sorted({owner for core in ids if (owner := find_owner(core)) is not None})
    found = {
        "neuron_device": number,
        "bdf": f"{number:02x}:1f.0",
        "cpu_affinity": "0-1",
        "numa_node": "-1",
        "connected_to": None,
        "nc_count": per_device,
        "memory_size": machine.device_memory_bytes,
        "neuroncore_ids": ids,
        "neuron_processes": [
            {"pid": owner, "command": "python", "neuron_runtime_version": "2.35.30.0"} for owner in owners
        ],
        "instance_type": machine.instance_type,
    }
    return found | ({"logical_neuroncore_config": logical_core_size} if machine.has_logical_cores else {})


if __name__ == "__main__":
    sys.exit(main())
