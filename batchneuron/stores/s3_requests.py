"""Requests to one bucket, sent until S3 has answered.

No answer proves nothing: the request may have been carried out. So it is sent again, the same one, until
there is an answer or no patience left, and nothing is ever deleted on account of a failure.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from batchneuron.errors import OutputForbidden, OutputUnfit, OutputUnwritable
from batchneuron.stores.s3_answers import Meaning, is_throttled, read_code, read_meaning
from batchneuron.stores.s3_client import CredentialsMissing, open_client

_ATTEMPTS = 3  # botocore's own, which are quick; patience is kept here
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is sent again."""

    first_s: float = 60.0
    """Until the first answer: an address that is wrong never gives one."""
    later_s: float = 600.0
    """A bucket that slows writers down recovers within minutes."""
    credentials_s: float = 20.0
    """Until there are credentials: a machine's workers start together, and its metadata service, which all of
    them ask, limits how often it answers (EC2 user guide: "Query throttling")."""


@dataclass(slots=True)
class S3Requests:
    """A client, and what is known of it; any thread may send."""

    location: str
    """The run folder, for messages."""
    open_client: Callable[[], Any] = lambda: open_client(_ATTEMPTS)
    patience: Patience = Patience()
    rest: Callable[[float], None] = time.sleep
    client: Any = field(init=False)
    throttled: int = 0
    """Answers that asked to slow down, those among them that botocore dealt with by itself."""
    _has_answered: bool = False

    def __post_init__(self) -> None:
        self._open()

    def _open(self) -> None:
        """A client with the credentials of now; where there are none, they are looked for again for a while.

        Raises:
            OutputForbidden: there are none.
        """
        started, tries = time.monotonic(), 0
        while True:
            try:
                self.client = self.open_client()
                break
            except CredentialsMissing as error:
                if time.monotonic() - started > self.patience.credentials_s:
                    raise self._explain_refusal(error) from error
                self._pause(min(tries, 4))
                tries += 1
        self.client.meta.events.register("response-received.s3", self._count, unique_id=f"count-{id(self)}")

    def _count(self, parsed_response: Any = None, **_: Any) -> None:
        """What botocore calls with each answer; one that is no answer has no parsed response."""
        told = parsed_response or {}
        status = told.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        self.throttled += is_throttled(status, told.get("Error", {}).get("Code", ""))

    def send(self, call: Callable[[Any], _T], most_s: float = float("inf")) -> _T:
        """What the call returns, given a client; it is called again until S3 has answered.

        Credentials that are refused are looked for once more: a role's may have expired, a file's may be new.

        Args:
            call: sends one request.
            most_s: give up earlier than patience would.

        Raises:
            ClientError: an answer that the caller knows: 404, 412, 416.
            OutputForbidden: refused.
            OutputUnfit: no such bucket, or a request that this store does not know.
            OutputUnwritable: no answer, in all the time there was.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        started, has_new_credentials, tries = time.monotonic(), False, 0
        while True:
            try:
                result = call(self.client)
            except (BotoCoreError, ClientError, ResponseParserError) as error:
                meaning = read_meaning(error)
                self._has_answered |= isinstance(error, ClientError)
                if meaning is Meaning.ANSWER:
                    raise
                if meaning is Meaning.UNFIT:
                    raise self._explain_unfit(error) from error
                if meaning is Meaning.CREDENTIALS:
                    if has_new_credentials:
                        raise self._explain_refusal(error) from error
                    self._open()
                    has_new_credentials = True
                    continue
                self._wait(error, started, tries, most_s)
                tries += 1
                continue
            self._has_answered = True
            return result

    def _wait(self, error: Exception, started: float, tries: int, most_s: float) -> None:
        """Full jitter, so that a hundred workers do not come back together.

        Raises:
            OutputUnwritable: it has been long enough.
        """
        patience_s = min(most_s, self.patience.later_s if self._has_answered else self.patience.first_s)
        if time.monotonic() - started > patience_s:
            raise OutputUnwritable(
                f"no answer from S3 in {patience_s:.0f} s: {_first_line(error)}",
                self.location,
                "check the network and AWS_ENDPOINT_URL, and run the same command again",
            ) from error
        self._pause(tries)

    def _pause(self, tries: int) -> None:
        self.rest(random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(tries, 16))))

    def _explain_refusal(self, error: Exception) -> OutputForbidden:
        """S3's own no, or none to show it."""
        is_answer = bool(read_code(error))
        what = "S3 refuses these credentials" if is_answer else "no AWS credentials were found"
        return OutputForbidden(
            f"{what}: {_first_line(error)}",
            self.location,
            "set AWS_PROFILE, or give the machine a role, with s3:PutObject, s3:GetObject and s3:ListBucket "
            "on it; then run the same command again",
        )

    def _explain_unfit(self, error: Exception) -> OutputUnfit:
        code = read_code(error)
        if code == "NoSuchBucket":
            return OutputUnfit("there is no such bucket", self.location, "create it, or correct output.path")
        if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "301"):
            return OutputUnfit(
                f"the bucket is in another region: {_first_line(error)}",
                self.location,
                "set AWS_DEFAULT_REGION to the bucket's own",
            )
        return OutputUnfit(
            f"S3 cannot be used: {_first_line(error)}",
            self.location,
            "correct output.path or AWS_ENDPOINT_URL",
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
