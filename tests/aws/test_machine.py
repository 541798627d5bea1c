"""What an instance type gives a job: from our table, and from AWS where the table does not say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from batchneuron.aws.clients import Aws
from batchneuron.aws.machine import find_machine
from batchneuron.errors import SpecError


def answer(asked, memory_mib):
    """An account that knows one instance type, without chips."""

    def describe(InstanceTypes):
        asked.extend(InstanceTypes)
        return {
            "InstanceTypes": [
                {"VCpuInfo": {"DefaultVCpus": 7}, "MemoryInfo": {"SizeInMiB": memory_mib}},
            ]
        }

    return Aws("us-east-1", lambda _: SimpleNamespace(describe_instance_types=describe))


def test_memory_that_the_table_does_not_have_is_asked_of_aws():
    asked = []
    machine = find_machine("trn2.3xlarge", answer(asked, 100_000))

    assert asked == ["trn2.3xlarge"]
    assert (machine.memory_mib, machine.family, machine.chips, machine.vcpus) == (100_000, "trn2", 1, 12)


def test_memory_that_is_not_known_is_never_guessed():
    with pytest.raises(SpecError, match="has no host memory in our table"):
        find_machine("trn2.3xlarge", None)


def test_what_the_table_has_is_not_asked():
    asked = []

    assert find_machine("inf2.xlarge", answer(asked, 1)).memory_mib == 16 << 10
    assert asked == []
