"""A file system without hard links, and one that cannot rename without overwriting either.

`python no_links.py FOLDER`, for `test_every_call.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.faults.calls import Calls
from tests.faults.invariants import read_truth, require_finished, require_unfinished

NO_LINKS = "link,linkat:error=EPERM"
NO_RENAME = "renameat2:error=ENOSYS"


def main(folder: Path) -> None:
    calls = Calls(folder, "")
    assert calls.end("calm").code == 0
    truth = read_truth(folder / "calm")

    renamed = calls.tamper("renamed", NO_LINKS)
    require_finished(folder / "renamed", truth)
    assert renamed.injected
    print(f"renamed: {renamed.ended.code}")  # noqa: T201  # compared

    refused = calls.tamper("refused", NO_LINKS, NO_RENAME)
    require_unfinished(folder / "refused", refused.ended.code)
    assert "neither link nor rename without overwriting" in refused.ended.told
    assert "write to s3:// or to a local disk" in refused.ended.told
    print(f"refused: {refused.ended.code}")  # noqa: T201  # compared


if __name__ == "__main__":
    main(Path(sys.argv[1]))
