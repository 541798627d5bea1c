"""A job of a given size, cut and priced by the planner itself: rows, shapes, shards, and what each takes.

Lengths are those of the 63,666 package descriptions of benchmarks/peers, cut at 512 tokens; what a batch
takes is what the backends plan with (`cost.py`), for Inferentia2 and BERT-large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchneuron.planning.cost import DeviceCost, ShapeCost, estimate_cost
from batchneuron.planning.forecast import expect_item_s, forecast
from batchneuron.planning.ladder import LadderRequest, Sample, plan_ladder, predict_s
from batchneuron.planning.plan import Plan, cut_shards
from batchneuron.sources.source import Block, FileId, FileInventory, Inventory

INF2 = DeviceCost(per_call_s=0.0003, flop_per_s=3e13, compile_s=120.0)
"""As backends/neuron_host.py has it, from AWS's published figures."""
BERT_LARGE: Mapping[str, int] = {"num_hidden_layers": 24, "hidden_size": 1024}
LIMIT_TOKENS = 512
BATCH_SLOTS = 1024
_BINS = (2, 16, 32, 48, 64, 96, 128, 160, 192, 256, 320, 513)
_SHARES = (0.2, 4.1, 12.8, 19.7, 29.4, 15.9, 8.0, 4.4, 3.6, 1.2, 0.9)
_SAMPLED = 4_096
_FILE_ROWS = 1_000_000
_BLOCK_ROWS = 100_000
_BYTES_PER_ROW = 400
_VERY_MANY = 1e9  # so that no batch is left half full, and compiling is nothing


@dataclass(frozen=True, slots=True)
class Job:
    """A plan, and the seconds of one core that each of its shards takes."""

    plan: Plan
    encode_s: NDArray[np.float64]
    """Reading and tokenising, by a thread of the host: [shards]"""
    device_s: NDArray[np.float64]
    """[shards]"""
    write_s: NDArray[np.float64]
    """Decoding and writing, without the commit: [shards]"""
    ideal_s: float
    """Of the device for all rows, if every batch were full."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Rows a second of one core's host threads, and how much shards of equal rows differ."""

    encode_rows_per_s: float = 8_500.0
    """Measured: WordPiece, one thread, rows of 90 tokens."""
    write_rows_per_s: float = 100_000.0
    """Measured: 384 floats a row, one thread."""
    spread: float = 0.1
    """Sigma of the logarithm of a shard's tokens: files are sorted by something."""


def make_lengths(seed: int = 1) -> NDArray[np.int32]:
    """Token lengths of a sample of rows: [4096]."""
    random = np.random.default_rng(seed)
    shares = np.array(_SHARES) / sum(_SHARES)
    bins = random.choice(len(shares), size=_SAMPLED, p=shares)
    lengths = random.integers(np.array(_BINS[:-1])[bins], np.array(_BINS[1:])[bins])
    return np.asarray(lengths, dtype=np.int32)


def make_inventory(rows: int) -> Inventory:
    """So many rows in files of a million, in row groups of a hundred thousand."""
    files = []
    for number, start in enumerate(range(0, rows, _FILE_ROWS)):
        file_rows = min(_FILE_ROWS, rows - start)
        blocks = tuple(
            Block(lo, min(_BLOCK_ROWS, file_rows - lo), _BLOCK_ROWS * _BYTES_PER_ROW, place)
            for place, lo in enumerate(range(0, file_rows, _BLOCK_ROWS))
        )
        file = FileId(f"s3://simulated/input/{number:05d}.parquet", file_rows * _BYTES_PER_ROW, "1")
        files.append(FileInventory(file, blocks))
    return Inventory(tuple(files), pa.schema([]))


def request_ladder(cost: ShapeCost) -> LadderRequest:
    """What the backend says about shapes."""
    return LadderRequest(limit_tokens=LIMIT_TOKENS, batch_slots=BATCH_SLOTS, cost=cost)


def expect_row_s(lengths: NDArray[np.int32], cost: ShapeCost) -> float:
    """Seconds of one core for a row, if every batch were full."""
    return expect_item_s(Sample(lengths, _VERY_MANY), request_ladder(cost))


def make_job(rows: int, shard_rows: int, rates: Rates | None = None, seed: int = 1) -> Job:
    """The job, as the planner cuts it."""
    rates, cost, lengths = rates or Rates(), estimate_cost(INF2, BERT_LARGE), make_lengths()
    shards = cut_shards(make_inventory(rows), shard_rows)
    sample, request = Sample(lengths, rows / len(shards), len(shards)), request_ladder(cost)
    ladder = plan_ladder(sample, request)
    plan = Plan(shards, ladder, float(lengths.mean()), forecast(ladder, sample, request))
    mean_s = predict_s(ladder, sample, request) / (rows / len(shards))
    counts = np.array([shard.rows for shard in shards], dtype=np.float64)
    weights = np.random.default_rng(seed).lognormal(0.0, rates.spread, len(shards)) * counts
    weights *= counts.sum() / weights.sum()  # the same work in all, however it is cut
    return Job(
        plan=plan,
        encode_s=weights / rates.encode_rows_per_s,
        device_s=weights * mean_s,
        write_s=counts / rates.write_rows_per_s,
        ideal_s=rows * expect_row_s(lengths, cost),
    )
