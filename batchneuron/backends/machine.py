"""What this machine lets this process use: CPUs, memory, instruction set.

Asks the kernel and the control group, so that a container with two CPUs of a large host counts two.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = "max"
BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16")
_VECTOR_UNITS = ("avx512f", "avx2", "sve", "asimd")


def list_cpus() -> tuple[int, ...]:
    """CPU numbers this process may run on, as many as its quota pays for."""
    cpus = sorted(os.sched_getaffinity(0))
    quota = _read(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0] != _UNLIMITED:
        return tuple(cpus[: max(1, int(quota[0]) // int(quota[1]))])
    return tuple(cpus)


def available_memory_bytes() -> int:
    """Memory that can be taken without swapping, within the control group's limit."""
    available = _read_memory("MemAvailable")
    limit = _read(_CGROUP / "memory.max").strip()
    if limit and limit != _UNLIMITED:
        used = int(_read(_CGROUP / "memory.current").strip() or 0)
        available = min(available, max(0, int(limit) - used))
    return available


def total_memory_bytes() -> int:
    """Memory of the machine, or of the control group: the same however much of it is in use."""
    limit = _read(_CGROUP / "memory.max").strip()
    total = _read_memory("MemTotal")
    return min(total, int(limit)) if limit and limit != _UNLIMITED else total


def cpu_target() -> str:
    """Architecture and best unit, `x86_64-avx512`: what a math library chooses its kernels by.

    The names are the kernel's, in /proc/cpuinfo.
    """
    best = next((name for name in (*BFLOAT16_UNITS, *_VECTOR_UNITS) if name in _list_flags()), "generic")
    return f"{platform.machine()}-{best.removesuffix('f')}"


def has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself; without, a library converts, and gains nothing."""
    return not _list_flags().isdisjoint(BFLOAT16_UNITS)


def has_matrix_units() -> bool:
    """Whether the CPU multiplies whole tiles of bfloat16, many times as fast as vectors do."""
    return "amx_bf16" in _list_flags()


def _list_flags() -> frozenset[str]:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _read_memory(name: str) -> int:
    fields = dict(line.split(":", 1) for line in _read(Path("/proc/meminfo")).splitlines() if ":" in line)
    return int(fields.get(name, "0 kB").split()[0]) * 1024


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
