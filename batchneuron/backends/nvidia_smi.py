"""`nvidia-smi`: the GPUs of this host, without touching them or importing a framework."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

_QUERY = "uuid,name,compute_cap,memory.total"
_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, as nvidia-smi tells of it."""

    uuid: str
    """`GPU-…`, which CUDA_VISIBLE_DEVICES takes whatever order CUDA counts in."""
    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int

    @property
    def has_bfloat16(self) -> bool:
        """Whether its matrix units take bfloat16: Ampere and later (CUDA C++ guide, compute capabilities)."""
        return self.compute_capability >= (8, 0)

    @property
    def target(self) -> str:
        """`sm_90 NVIDIA H200`: what decides the kernels, and so the last bits."""
        major, minor = self.compute_capability
        return f"sm_{major}{minor} {self.name}"


def list_gpus() -> tuple[Gpu, ...]:
    """GPUs in the order of their bus; none where the tool is missing, fails, or says what cannot be read."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    gpus = [_read_gpu(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []
    return tuple(gpu for gpu in gpus if gpu is not None)


def _read_gpu(line: str) -> Gpu | None:
    """`GPU-5f…, NVIDIA H200, 9.0, 143771` (MiB)."""
    try:
        uuid, name, capability, memory_mib = (word.strip() for word in line.split(","))
        major, minor = (int(number) for number in capability.split("."))
        return Gpu(uuid, name, (major, minor), int(memory_mib) << 20)
    except ValueError:
        return None
