"""What a Parquet file says of itself, at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchneuron.errors import OutputConflict


def read_pairs(source: Any, where: str) -> Mapping[str, str]:
    """The key-value metadata of a Parquet file, with `num_rows` added; nothing but the footer is read.

    Raises:
        OutputConflict: it is not a readable Parquet file.
    """
    try:
        footer = pq.read_metadata(source)
    except (pa.ArrowException, OSError) as error:
        raise OutputConflict(
            f"not a readable Parquet file: {error}", where, "delete that file and run again"
        ) from error
    pairs = {key.decode(): value.decode("utf-8", "replace") for key, value in (footer.metadata or {}).items()}
    return {**pairs, "num_rows": str(footer.num_rows)}
