"""The S3 client that everything here uses, and what S3's own errors mean.

Retries are set explicitly, because botocore's default has changed between its versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from batchneuron.errors import BackendError

S3 = "s3://"


class CredentialsMissing(Exception):
    """Nobody gave credentials: there are none, or whoever has them is too busy."""


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`, the prefix without slashes at its ends."""
    bucket, _, prefix = uri.removeprefix(S3).partition("/")
    return bucket, prefix.strip("/")


def open_client(attempts: int) -> Any:
    """A client with the usual credentials: environment, profile, role of the machine or container.

    Args:
        attempts: how often a request is sent at most, when S3 is slow, busy or not reached.

    Raises:
        BackendError: boto3 is not installed, or the AWS configuration names something that is not there.
        CredentialsMissing: there are none just now.
    """
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, CredentialRetrievalError, NoCredentialsError
        from botocore.session import get_session
    except ImportError as error:
        hint = "pip install '.[aws]' in the folder of batchneuron's repository"
        raise BackendError("s3:// needs boto3", S3, hint) from error
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=32,
    )
    # A session of its own asks for credentials anew, where boto3's default one keeps what it found first.
    try:
        session = get_session()
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_read_time)
        if session.get_credentials() is None:
            raise NoCredentialsError
        return boto3.Session(botocore_session=session).client("s3", config=config)
    except (NoCredentialsError, CredentialRetrievalError) as error:
        raise CredentialsMissing(str(error)) from error
    except (BotoCoreError, ValueError) as error:
        hint = "correct AWS_PROFILE, AWS_DEFAULT_REGION or AWS_ENDPOINT_URL"
        raise BackendError(f"S3 cannot be used: {error}", S3, hint) from error


def _read_time(value: Any) -> datetime:
    """A date in an answer. botocore's own way takes two thirds of the time that a listing takes."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):  # a header's, or a number
        found: datetime = parse_timestamp(value)
        return found


def read_status(error: Exception) -> int:
    """The HTTP status of an S3 answer; 0 where there was no answer."""
    response = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def read_date(answer: Mapping[str, Any]) -> datetime | None:
    """When S3 gave an answer, by its own clock; None where it does not say."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(date) if date else None
    except ValueError:
        return None
