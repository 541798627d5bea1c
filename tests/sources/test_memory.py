"""What a line of 200 MB costs: the process's own peak, so each measurement has a process of its own."""

import subprocess
import sys

import pytest

MB = 1 << 20
SCRIPT = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from batchneuron.sources import open_source
from batchneuron.sources.source import Slice
from batchneuron.spec.sections import InputSpec

def read(path):
    source = open_source(InputSpec(path=path))
    inventory = source.inventory()
    reader = source.open_reader(inventory.schema)
    tables = [
        reader.read([Slice(f.file, b.row_lo, b.row_lo + b.rows, b.row_lo, b.position, b.line)])
        for f in inventory.files for b in f.blocks
    ]
    return inventory.rows, sum(len(rows.rejections) for rows in tables)

assert read(sys.argv[1]) == (50000, 0)  # an ordinary file first: what it costs is not the line's
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert read(sys.argv[2]) == (1001, 1)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


@pytest.mark.case(34)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_line_of_200_mb_costs_little_memory(tmp_path, kind):
    row, begin, end = {
        "jsonl": (b'{"id": "1", "text": "some words"}\n', b'{"id": "2", "text": "', b'"}\n'),
        "csv": (b'1,"some words"\n', b'2,"', b'"\n'),
    }[kind]
    header = b"id,text\n" if kind == "csv" else b""
    plain, long = tmp_path / f"plain.{kind}", tmp_path / f"long.{kind}"
    plain.write_bytes(header + row * 50_000)
    with long.open("wb") as file:
        file.write(header + row * 500 + begin)
        for _ in range(200):
            file.write(b"some words\n"[: 10 + (kind == "csv")] * (MB // 10))
        file.write(end + row * 500)
    grown = int(subprocess.check_output([sys.executable, "-c", SCRIPT, str(plain), str(long)], text=True))
    assert grown < 64 * MB, f"{grown / MB:.0f} MiB"
