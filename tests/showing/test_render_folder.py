"""What `gc` says: how many files of which kind, and which."""

from batchneuron.ledger.run_record import Leftover
from batchneuron.ledger.sweep import Swept
from batchneuron.showing.render_folder import render_swept

PARTS = tuple(Leftover("part", f"data/part-0000{number}_of_00005-1c0a52d8.parquet", 600) for number in (0, 1))
LEASE = Leftover("lease", ".batchneuron/leases/7f3a9c1e-5b0e91d24c7a.json", 40)


def test_one_file_of_a_kind_and_several_are_told_apart():
    assert render_swept(Swept("out", (*PARTS, LEASE), 0, is_dry_run=False)) == (
        "out: removed: 2 parts of other runs, 1 lease of a dead runner; 1,240 bytes"
    )
    assert render_swept(Swept("out", (PARTS[0], LEASE, LEASE), 0, is_dry_run=False)) == (
        "out: removed: 1 part of another run, 2 leases of dead runners; 680 bytes"
    )


def test_a_dry_run_lists_twenty_files_at_most():
    lines = render_swept(Swept("out", PARTS, 1, is_dry_run=True)).splitlines()
    assert lines == [
        "out: would be removed: 2 parts of other runs; 1,200 bytes; 1 runner at work",
        *(f"  {part.name}" for part in PARTS),
    ]
    assert len(render_swept(Swept("out", PARTS * 11, 0, is_dry_run=True)).splitlines()) == 1 + 20
