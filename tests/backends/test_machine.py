"""What the machine gives: the smaller of what it has and what the control group allows."""

import os
import re

import pytest

from batchneuron.backends import machine


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("200000 100000", 2),
        ("350000 100000", 3),
        ("50000 100000", 1),
        ("max 100000", 6),
        ("9900000 100000", 6),
        ("", 6),
    ],
)
def test_cpus_are_as_many_as_the_quota_pays_for(cgroup, monkeypatch, quota, cpus):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {9, 3, 4, 5, 6, 7})
    (cgroup / "cpu.max").write_text(quota)

    assert machine.list_cpus() == (3, 4, 5, 6, 7, 9)[:cpus]


def test_cpus_without_a_control_group(cgroup):
    assert machine.list_cpus() == tuple(sorted(os.sched_getaffinity(0)))


def test_memory_is_what_the_control_group_leaves(cgroup):
    free = machine.available_memory_bytes()
    assert free > 0

    (cgroup / "memory.current").write_text("1000\n")
    for limit, left in (("5000\n", 4000), ("900\n", 0)):
        (cgroup / "memory.max").write_text(limit)
        assert machine.available_memory_bytes() == left

    (cgroup / "memory.max").write_text("max\n")
    assert machine.available_memory_bytes() > 5000


def test_the_target_names_architecture_and_vector_unit():
    assert re.fullmatch(r"\w+-(amx_bf16|avx512_bf16|avx512|avx2|sve|asimd|generic)", machine.cpu_target())
