"""What holds of a run folder after any fault, before the next run and after it; `matrix.py` has the list."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from batchneuron.ledger.verify import verify_folder
from tests.faults.harness import read_bits, require_readable, require_whole

PLANTED = {
    "HF_TOKEN": "hf_" + "PlantedPlantedPlantedPlanted00",
    "AWS_SECRET_ACCESS_KEY": "planted/planted/planted/planted/planted+",
    "AWS_SESSION_TOKEN": "planted-session-token-planted-session-token",
}
"""Secrets in the environment of each run; they are looked for in all that it leaves."""
_LEDGER = {"run.json", "manifest.json", "lock", "progress", "leases", "tmp"}


@dataclass(frozen=True, slots=True)
class Truth:
    """What a run without faults gives."""

    rows: int
    shards: int
    bits: dict[str, bytes | list[str]]


def read_truth(output: Path) -> Truth:
    """That of a run that nobody disturbed."""
    manifest = json.loads((output / ".batchneuron/manifest.json").read_text())
    require_whole(output, manifest["rows"])
    return Truth(manifest["rows"], len(manifest["parts"]), read_bits(output))


def has_manifest(output: Path) -> bool:
    return (output / ".batchneuron/manifest.json").exists()


def digest_parts(output: Path) -> dict[str, str]:
    """Parts by name, as they are now; what is committed is never written again."""
    data = output / "data"
    return (
        {path.name: sha256(path.read_bytes()).hexdigest() for path in data.iterdir()} if data.is_dir() else {}
    )


def require_unfinished(output: Path, code: int, *, has_tidied: bool = True) -> dict[str, str]:
    """After a fault: I2, I4, I5, I7. What is there, for `require_finished` to compare.

    Args:
        output: the run folder.
        code: the exit code, or minus the signal.
        has_tidied: whether all processes of the run came to its end, so that no scratch file is left.
    """
    if (output / "data").is_dir():
        require_readable(output)
    assert (code == 0) <= has_manifest(output), f"exit code {code}, manifest: {has_manifest(output)}"
    if code >= 0 and has_tidied:
        require_no_scratch(output)
    require_known_names(output)
    require_no_secret(output)
    return digest_parts(output)


def require_finished(output: Path, truth: Truth, before: dict[str, str] | None = None) -> None:
    """After the run that said it is done: I1 to I5, I7; parts that were there before it are as they were."""
    require_whole(output, truth.rows)
    assert read_bits(output) == truth.bits
    found = verify_folder(str(output))
    assert found.is_whole and not found.strays, found
    require_no_scratch(output)
    require_known_names(output)
    require_no_secret(output)
    assert (before or {}).items() <= digest_parts(output).items(), "a committed part was written again"


def require_no_scratch(output: Path) -> None:
    """I5, for a process that could still tidy up."""
    left = list(output.glob(".batchneuron/tmp/*"))
    assert left == [], left


def require_known_names(output: Path) -> None:
    """I5: nothing in the ledger that a run folder does not have."""
    ledger = output / ".batchneuron"
    names = {path.name for path in ledger.iterdir()} if ledger.is_dir() else set()
    assert {name for name in names - _LEDGER if not name.startswith("plan-")} == set()


def require_no_secret(folder: Path) -> None:
    """I7: what was planted in the environment is in no file."""
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for name, secret in PLANTED.items():
                assert secret.encode() not in content, f"{name} is in {path}"


def require_little_done_again(begun: Path, truth: Truth, lost: int) -> None:
    """I6: shards that were begun, over all runs, against those there are and what the dead had in hand.

    Args:
        begun: a line for each shard that a worker began.
        truth: what there was to do.
        lost: shards that were in the hands of those that died.
    """
    count = len(begun.read_text().split()) if begun.exists() else 0
    assert count <= truth.shards + lost, f"{count} shards begun, {truth.shards} there, {lost} lost"
