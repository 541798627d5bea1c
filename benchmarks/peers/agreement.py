"""How far two sets of predictions agree: cosine of vectors, share of equal labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def compare_predictions(reference: Path, candidate: Path) -> dict[str, float]:
    """Smallest and mean cosine, or the share of equal labels."""
    left, right = pq.read_table(reference), pq.read_table(candidate)
    if "embedding" in left.column_names:
        ours, theirs = _vectors(left["embedding"]), _vectors(right["embedding"])
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        cosine = (ours * theirs).sum(axis=1) / norms
        return {"cosine_min": round(float(cosine.min()), 6), "cosine_mean": round(float(cosine.mean()), 6)}
    pairs = zip(_labels(left), _labels(right), strict=True)
    return {"equal": round(float(np.mean([one == other for one, other in pairs])), 4)}


def _vectors(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float64).reshape(len(column), -1)


def _labels(table: pa.Table) -> list[str]:
    """What a row says, as one text; the peers' scripts write it so already."""
    name = next(name for name in ("label", "labels", "answer", "entities") if name in table.column_names)
    return [_one(value) for value in table[name].to_pylist()]


def _one(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        if "entity" in value[0]:
            return "|".join(f"{word['entity']}@{word['start']}" for word in value)
        return str(value[0].get("label"))
    if isinstance(value, list):
        return str(value[0]) if value else ""
    return str(value)
