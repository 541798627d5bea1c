"""What an S3 error means for whoever sent the request.

Source of the codes: "Error responses" of the Amazon S3 API Reference. botocore's own retries end long
before a busy bucket recovers, and know nothing of a 409, of a damaged body or of refreshed credentials.
"""

from __future__ import annotations

from enum import Enum, auto

from batchneuron.stores.s3_client import read_status


class Meaning(Enum):
    """What to do about an error."""

    ANSWER = auto()
    """It is the answer: no such object, or the condition does not hold."""
    AGAIN = auto()
    """Nothing is known: send the same request again."""
    CREDENTIALS = auto()
    """Missing, expired or refused."""
    UNFIT = auto()
    """It will be the same tomorrow: no such bucket, another region, a request this store does not know."""


_CREDENTIAL_CODES = {
    *("AccessDenied", "AccountProblem", "AllAccessDisabled", "ExpiredToken", "ExpiredTokenException"),
    *("InvalidAccessKeyId", "InvalidToken", "RequestExpired", "RequestTimeTooSkewed"),
    *("SignatureDoesNotMatch", "TokenRefreshRequired"),
}
_AGAIN_CODES = {
    *("BadDigest", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout", "SlowDown"),
    *("ConditionalRequestConflict", "Throttling", "XAmzContentChecksumMismatch"),
    "XAmzContentSHA256Mismatch",
}
_THROTTLE_CODES = {"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"}
_AGAIN_STATUSES = {307, 408, 409, 429, 500, 502, 503, 504}
_ANSWER_STATUSES = {404, 412, 416}


def is_throttled(status: int, code: str) -> bool:
    """Whether an answer asks its caller to slow down."""
    return status == 429 or code in _THROTTLE_CODES


def read_code(error: Exception) -> str:
    """S3's name of an error; empty where there was no answer."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def read_meaning(error: Exception) -> Meaning:
    """What a botocore exception means."""
    from botocore import exceptions, parsers

    if isinstance(error, exceptions.ClientError):
        return _read_answer(read_code(error), read_status(error))
    credentials = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.SSOError,
        exceptions.TokenRetrievalError,
        exceptions.RefreshWithMFAUnsupportedError,
    )
    if isinstance(error, credentials):
        return Meaning.CREDENTIALS
    passing = (
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        parsers.ResponseParserError,
        exceptions.FlexibleChecksumError,
        exceptions.ChecksumError,
    )
    return Meaning.AGAIN if isinstance(error, passing) else Meaning.UNFIT


def _read_answer(code: str, status: int) -> Meaning:
    # The answer to a HEAD has no body: with an expired token its code is its status.
    if code in _CREDENTIAL_CODES or status in (401, 403) or code == "400":
        return Meaning.CREDENTIALS
    if code == "NoSuchBucket":
        return Meaning.UNFIT
    if code in _AGAIN_CODES or status in _AGAIN_STATUSES:
        return Meaning.AGAIN
    return Meaning.ANSWER if status in _ANSWER_STATUSES else Meaning.UNFIT
