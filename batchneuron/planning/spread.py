"""Spread: rows from all over the input, for whoever judges all of it by a few.

Pure. The same shards give the same rows. They come in row order, so that a reader passes over the input
once: no row group is decoded twice, and what lies between two blocks is not read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from batchneuron.planning.plan import Shard, sample_shards
from batchneuron.sources.source import Block, Inventory, Slice

PLACES = 16


@dataclass(frozen=True, slots=True)
class Some:
    """Some rows of a shard."""

    shard: Shard
    """As if it had no others."""
    ordinals: NDArray[np.int64]
    """Of those rows, ascending"""


def spread_rows(shards: Sequence[Shard], rows: int, places: int = PLACES) -> tuple[Some, ...]:
    """At most so many rows from each of so many places, evenly from the first row to the last.

    Of as many shards as places, or more: the first rows of some of them. Of fewer: places within them.

    Args:
        shards: those to choose from; where they are few, as `split_at_blocks` gives them.
        rows: rows from each place.
        places: how many.
    """
    if len(shards) >= places:
        chosen = [(shard, [(0, min(rows, shard.rows))]) for shard in sample_shards(shards, places)]
    else:
        chosen = list(_find_runs(shards, rows, places))
    return tuple(_take(shard, runs) for shard, runs in chosen if shard.rows and runs)


def split_at_blocks(shards: Sequence[Shard], inventory: Inventory) -> tuple[Shard, ...]:
    """The same shards with a slice for each block, so that a reader gets to any row by its own block.

    Where they are enough to sample their first rows alone, they stay as they are.
    """
    if len(shards) >= PLACES:
        return tuple(shards)
    blocks = {file.file: [block for block in file.blocks if block.rows] for file in inventory.files}
    return tuple(
        replace(
            shard, slices=tuple(part for piece in shard.slices for part in _split(piece, blocks[piece.file]))
        )
        for shard in shards
    )


def _find_runs(
    shards: Sequence[Shard], rows: int, places: int
) -> Iterator[tuple[Shard, list[tuple[int, int]]]]:
    """For each shard the runs of its rows that are taken; a place may reach from one shard into the next."""
    total = sum(shard.rows for shard in shards)
    starts = [place * (total - rows) // (places - 1) for place in range(places)]
    runs = [(0, total)] if total <= places * rows else [(start, start + rows) for start in starts]
    first = 0
    for shard in shards:
        inside = [(max(lo - first, 0), min(hi - first, shard.rows)) for lo, hi in runs]
        yield shard, [(lo, hi) for lo, hi in inside if lo < hi]
        first += shard.rows


def _take(shard: Shard, runs: Sequence[tuple[int, int]]) -> Some:
    slices = tuple(part for lo, hi in runs for part in _cut(shard.slices, lo, hi))
    ordinals = np.concatenate([np.arange(lo, hi, dtype=np.int64) for lo, hi in runs])
    return Some(replace(shard, slices=slices), shard.row_lo + ordinals)


def _cut(slices: Sequence[Slice], lo: int, hi: int) -> Iterator[Slice]:
    """The slices of rows `lo` to `hi`, counted from the first slice's first row."""
    for piece in slices:
        begin, end = max(lo, 0), min(hi, piece.rows)
        if begin < end:
            yield replace(piece, row_lo=piece.row_lo + begin, row_hi=piece.row_lo + end)
        lo, hi = lo - piece.rows, hi - piece.rows


def _split(piece: Slice, blocks: Sequence[Block]) -> Iterator[Slice]:
    """The slice as one for each of its file's blocks."""
    place = bisect_right(blocks, piece.row_lo, key=lambda block: block.row_lo) - 1
    for block in blocks[place:]:
        lo, hi = max(piece.row_lo, block.row_lo), min(piece.row_hi, block.row_lo + block.rows)
        if lo >= hi:
            return
        yield Slice(piece.file, lo, hi, block.row_lo, block.position, block.line)
