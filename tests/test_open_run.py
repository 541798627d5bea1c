"""Opening a folder whose plan is lost: it says what mends it, and that mends it."""

import pytest

from batchneuron.errors import OutputConflict
from batchneuron.ledger.found import find_run
from batchneuron.ledger.status import read_status
from batchneuron.ledger.verify import verify_folder
from batchneuron.run import run_job


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_a_run_that_lost_its_plan_is_begun_anew_on_demand(make_spec, tmp_path, damage):
    out = tmp_path / "out"
    run_job(make_spec())
    (out / ".batchneuron/manifest.json").unlink()
    damage(out / ".batchneuron" / find_run(str(out)).record.plan)
    for ask in (lambda: run_job(make_spec()), lambda: read_status(str(out)), lambda: verify_folder(str(out))):
        with pytest.raises(OutputConflict, match="begin anew with `run --overwrite`") as caught:
            ask()
        assert caught.value.exit_code == 73

    summary = run_job(make_spec(), overwrite=True)

    assert len(summary.done_now) == summary.shards
    assert verify_folder(str(out)).is_whole
    assert verify_folder(str(out)).strays == ()
