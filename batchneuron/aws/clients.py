"""Clients of AWS's services, and what their errors mean to a user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from batchneuron.errors import BackendError, OutputForbidden, WorkerFailed

_FORBIDDEN = {
    *{
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "ExpiredToken",
        "ExpiredTokenException",
    },
    *{
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
    },
}
_BUSY = {"TooManyRequestsException", "ThrottlingException", "Throttling", "ServerException", "RequestTimeout"}


class AwsForbidden(OutputForbidden):
    """AWS refuses these credentials, or there are none."""


@dataclass(frozen=True, slots=True)
class Aws:
    """One account and region, as the environment, the profile or the machine's role name them."""

    region: str
    open_service: Callable[[str], Any]
    """A boto3 client by its service's name."""


def open_aws() -> Aws:
    """The account that the AWS command line would use.

    Raises:
        BackendError: boto3 is not installed, or no region is set.
    """
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        hint = "pip install '.[aws]' in the folder of batchneuron's repository"
        raise BackendError("AWS Batch needs boto3", "submit", hint) from error
    try:
        session = boto3.Session()
    except BotoCoreError as error:
        raise BackendError(f"AWS cannot be used: {error}", "submit", "correct AWS_PROFILE") from error
    if session.region_name is None:
        hint = "set AWS_DEFAULT_REGION, or the profile's region"
        raise BackendError("no AWS region is set", "submit", hint)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 8}, connect_timeout=10, read_timeout=60
    )
    return Aws(session.region_name, lambda service: session.client(service, config=config))


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn what AWS answers while `what` is asked for into an error that says what to do.

    Raises:
        AwsForbidden: no credentials, or refused ones.
        WorkerFailed: AWS is busy or not reached; the same command may succeed later.
        BackendError: AWS does not do that.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

    try:
        yield
    except NoCredentialsError as error:
        raise AwsForbidden("no AWS credentials", what, "set AWS_PROFILE, or run `aws configure`") from error
    except ClientError as error:
        told = error.response.get("Error", {})
        code, message = told.get("Code", ""), told.get("Message", str(error))
        if code in _FORBIDDEN:
            hint = f"allow it to this user: {error.operation_name}"
            raise AwsForbidden(f"AWS refuses it: {message}", what, hint) from error
        if code in _BUSY:
            raise WorkerFailed(f"AWS is busy: {message}", what, "run the same command again") from error
        raise BackendError(f"AWS refuses it: {code}: {message}", what, _advise(code)) from error
    except ParamValidationError as error:
        raise BackendError(str(error), what, "correct the flag that this value came from") from error
    except BotoCoreError as error:
        hint = "check the network, AWS_DEFAULT_REGION and AWS_ENDPOINT_URL"
        raise WorkerFailed(f"no answer from AWS: {error}", what, hint) from error


def _advise(code: str) -> str:
    if code == "ClientException":
        return "check the names of queue, job definition and roles"
    return "check names and region"
