"""Does this store really create? Eight writers race for one name; exactly one may win.

A store may take `If-None-Match` and ignore it, or check it and then write, which two writers can both
pass (SeaweedFS did until 2026-03). Either would let a part be overwritten, so both are refused.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

from batchneuron.errors import OutputForbidden, OutputUnfit
from batchneuron.stores.s3_client import read_status
from batchneuron.stores.s3_requests import S3Requests

_WRITERS = 8


def require_exclusive(requests: S3Requests, bucket: str, folder: str) -> None:
    """Race for a name in this folder, and remove it again.

    Raises:
        OutputUnfit: several won, or nobody did.
    """
    place = {"Bucket": bucket, "Key": f"{folder}/probe-{uuid.uuid4().hex}"}
    start = threading.Barrier(_WRITERS)
    bodies = [str(number).encode() for number in range(_WRITERS)]
    with ThreadPoolExecutor(_WRITERS) as pool:
        won = [
            body
            for body, has_won in zip(
                bodies, pool.map(lambda body: _create(requests, place, body, start), bodies), strict=True
            )
            if has_won
        ]
    found: bytes = requests.send(lambda client: client.get_object(**place)["Body"].read())
    with contextlib.suppress(OutputForbidden):  # a role without s3:DeleteObject leaves one byte behind
        requests.send(lambda client: client.delete_object(**place))
    # A winner whose answer was lost meets its own object, and does not know that it won.
    if won not in ([found], []) or found not in bodies:
        raise OutputUnfit(
            f"{len(won)} of {_WRITERS} writers created the same name: this store does not hold "
            "`If-None-Match: *`, so two runners could overwrite each other's parts",
            requests.location,
            "write to Amazon S3 or another store with conditional writes, or to a local folder",
        )


def _create(requests: S3Requests, place: dict[str, str], body: bytes, start: threading.Barrier) -> bool:
    from botocore.exceptions import ClientError

    start.wait()
    try:
        requests.send(lambda client: client.put_object(**place, Body=body, IfNoneMatch="*"))
    except ClientError as error:
        if read_status(error) != 412:
            raise
        return False
    return True
