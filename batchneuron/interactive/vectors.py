"""Vectors of texts as a caller wants them, and how near they are to each other."""

from __future__ import annotations

from typing import Any

import numpy as np


def stack_vectors(vectors: list[Any], is_single: bool, form: str) -> Any:
    """Vectors as one array or tensor where they are of one size, else in a list; one alone for one text."""
    import torch

    made = vectors if form == "numpy" else [torch.from_numpy(np.array(one)) for one in vectors]
    if is_single or not form or any(vector.ndim > 1 for vector in made):
        return made[0] if is_single else made
    return np.array(made) if form == "numpy" else torch.stack(made) if made else torch.zeros(0)


def measure_similarity(name: str, first: Any, second: Any) -> Any:
    """How near each vector of the first is to each of the second: a tensor [R1, R2], larger is nearer."""
    import torch

    tensors = [torch.as_tensor(vectors).float() for vectors in (first, second)]
    left, right = (tensor[None] if tensor.ndim == 1 else tensor for tensor in tensors)
    if name in ("euclidean", "manhattan"):
        return -torch.cdist(left, right, p=2.0 if name == "euclidean" else 1.0)
    if name == "cosine":
        left, right = (torch.nn.functional.normalize(vectors, dim=-1) for vectors in (left, right))
    return left @ right.T
