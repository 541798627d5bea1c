"""What the machine is, how fast it can be, and whether it is quiet just now."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import numpy as np

_SIZE = 512
_PROBE_S = 0.3


def probe() -> float:
    """Matrix products per second on this machine, now: float32, all cores."""
    matrix = np.ones((_SIZE, _SIZE), dtype=np.float32)
    product = matrix @ matrix
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < _PROBE_S:
        np.matmul(matrix, matrix, out=product)
        count += 1
    return count / (time.perf_counter() - started)


def measure_limit() -> dict[str, float]:
    """GFLOP/s of the best of many matrix products, by type: torch's, and in float32 numpy's as well."""
    import torch

    left, right = torch.ones(4096, 384), torch.ones(384, 1536)
    return {
        "float32": max(_best_product(left, right), _best_product(left.numpy(), right.numpy())),
        "bfloat16": _best_product(left.bfloat16(), right.bfloat16()),
    }


def _best_product(left: object, right: object) -> float:
    best_s = min(_time_product(left, right) for _ in range(30))
    return round(2 * 4096 * 384 * 1536 / best_s / 1e9, 1)


def _time_product(left: object, right: object) -> float:
    started = time.perf_counter()
    left @ right  # type: ignore[operator]
    return time.perf_counter() - started


def name_machine() -> str:
    """Processor, cores, vector units, Python; some hosts call all their processors `AMD EPYC`."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    said = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    model = f"{said.get('model name', '')} (family {said.get('cpu family')}, model {said.get('model')})"
    cores = sum(line.startswith("processor") for line in lines)
    return f"{model}, {cores} cores, {' '.join(_list_units())}, Python {platform.python_version()}"


def is_made_for_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16; elsewhere it is slower than float32, for everybody."""
    return any("bf16" in unit for unit in _list_units())


def _list_units() -> list[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
