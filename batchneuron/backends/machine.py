"""What this machine lets this process use: CPUs, memory, instruction set.

Asks the kernel and the control group, so that a container with two CPUs of a large host counts two.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = "max"


def list_cpus() -> tuple[int, ...]:
    """CPU numbers this process may run on, as many as its quota pays for."""
    cpus = sorted(os.sched_getaffinity(0))
    quota = _read(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0] != _UNLIMITED:
        return tuple(cpus[: max(1, int(quota[0]) // int(quota[1]))])
    return tuple(cpus)


def available_memory_bytes() -> int:
    """Memory that can be taken without swapping, within the control group's limit."""
    fields = dict(line.split(":", 1) for line in _read(Path("/proc/meminfo")).splitlines() if ":" in line)
    available = int(fields.get("MemAvailable", "0 kB").split()[0]) * 1024
    limit = _read(_CGROUP / "memory.max").strip()
    if limit and limit != _UNLIMITED:
        used = int(_read(_CGROUP / "memory.current").strip() or 0)
        available = min(available, max(0, int(limit) - used))
    return available


def cpu_target() -> str:
    """Architecture and widest vector unit, `x86_64-avx512`: what a math library chooses its kernels by."""
    flags = set()
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(("flags", "Features")):
            flags = set(line.partition(":")[2].split())
            break
    widest = next((name for name in ("avx512f", "avx2", "sve", "asimd") if name in flags), "generic")
    return f"{platform.machine()}-{widest.removesuffix('f')}"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
