"""A bucket on this machine, and what can go wrong on the way to it, put between botocore and the network."""

from __future__ import annotations

import base64
import hashlib
import itertools
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from botocore.httpsession import URLLib3Session
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

Fault = Callable[[Any], AWSResponse | None]
"""Given the request: an answer in its place, None to let it pass, or an exception."""


@contextmanager
def serve() -> Iterator[str]:
    """The address of an S3 on this machine."""
    server = ThreadedMotoServer(port=0, verbose=False)
    with _be_atomic():
        server.start()
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # All servers of a process share one memory: nothing of the last one may be left.
        urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
        try:
            yield url
        finally:
            server.stop()


@contextmanager
def _be_atomic() -> Iterator[None]:
    """moto looks for an object, writes it, and then its metadata; S3 does it all at once."""
    lock = threading.Lock()

    def take_turns(method: Callable[..., Any]) -> Callable[..., Any]:
        def respond(*arguments: Any, **named: Any) -> Any:
            with lock:
                return method(*arguments, **named)

        return respond

    with ExitStack() as patches:
        for name in ("put_object", "get_object", "head_object", "delete_object"):
            turns = take_turns(getattr(S3Response, name))
            patches.enter_context(mock.patch.object(S3Response, name, turns))
        yield


def use_endpoint(monkeypatch: Any, url: str) -> None:
    """Find it as a user would."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)


@dataclass
class Faults:
    """Faults by operation, used up one by one; and what was sent."""

    client: Any
    """Of botocore, its own retries off, so that each try is seen."""
    plan: dict[str, Iterator[Fault]] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    """Operations in order, those that met a fault among them."""
    opened: int = 0

    def put(self, operation: str, *faults: Fault) -> None:
        self.plan[operation] = iter(faults)

    def put_always(self, operation: str, fault: Fault) -> None:
        self.plan[operation] = itertools.repeat(fault)

    def open_client(self) -> Any:
        """The client, which meets them; how often it was asked for is counted."""
        self.opened += 1
        return self.client

    @contextmanager
    def between(self) -> Iterator[None]:
        """Stand between the client and the network."""
        self.client.meta.events.register("before-send.s3", self._meet)
        yield
        self.client.meta.events.unregister("before-send.s3", self._meet)

    def _meet(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        operation = event_name.rpartition(".")[2]
        self.sent.append(operation)
        fault = next(self.plan.get(operation, iter(())), None)
        return fault(request) if fault is not None else None


def lose_answer(request: Any) -> None:
    """S3 does it, and the connection breaks before it says so."""
    URLLib3Session().send(request)
    raise ConnectionClosedError(endpoint_url=request.url)


def lose_request(request: Any) -> None:
    """The connection breaks before S3 has the request."""
    raise ConnectionClosedError(endpoint_url=request.url)


def hang(request: Any) -> None:
    """Nothing comes until the time is up."""
    raise ReadTimeoutError(endpoint_url=request.url)


def answer(status: int, code: str = "", headers: dict[str, str] | None = None) -> Fault:
    """An error of S3's own."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told to</Message></Error>".encode()

    def give(request: Any) -> AWSResponse:
        response = AWSResponse(request.url, status, headers or {}, None)
        response._content = body
        return response

    return give


def corrupt(request: Any) -> AWSResponse | None:
    """A bit flips on the way. moto compares no checksums, so this does, as S3 would."""
    body = bytearray(request.body.read())
    body[len(body) // 2] ^= 1
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    told = request.headers["x-amz-checksum-sha256"]
    assert (told if isinstance(told, str) else told.decode()) != digest
    return answer(400, "BadDigest")(request)


def ignore_condition(request: Any) -> None:
    """A store that has never heard of If-None-Match."""
    del request.headers["If-None-Match"]
