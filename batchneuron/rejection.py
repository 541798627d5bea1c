"""A row that gets no prediction, and why.

Readers, tokenising, and the checks behind the device all reject rows with this one record; the row
stays in its part with null predictions and `_error` set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Code = Literal[
    "bad_record",  # the reader could not parse the line or the value
    "bad_file",  # the file is damaged here, and `input.on_bad_file: skip`
    "empty_input",  # a text without a single token, for a tokenizer that adds none of its own
    "null_input",  # a column the task needs is null in this row
    "too_long",  # longer than the longest shape, and `shapes.overflow: reject`; or of 8 MiB and more
    "no_mask",  # the text has no mask token to fill
    "non_finite",  # the device gave NaN or infinity, or more than the wished type can hold
    "zero_norm",  # the embedding is all zeros, and has no direction
    "worker_crash",  # the worker died of this row alone, or the device refused it
    "worker_hang",  # the worker came to a stand on this row alone
    "out_of_memory",  # the worker ran out of memory on this row alone
]


@dataclass(frozen=True, slots=True)
class Rejection:
    """One rejected row."""

    row: int
    """Position in the shard, from 0."""
    code: Code
    message: str
