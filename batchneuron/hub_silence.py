"""Whether a hub gave no answer, so that asking again may help: read off what its libraries raised."""

from __future__ import annotations

from collections.abc import Iterator


def is_silence(error: BaseException) -> bool:
    """Whether the hub was busy, broken or not reached: HTTP 429 and 5xx, and connections that failed.

    Where HF_HUB_OFFLINE is set nobody was asked, and asking again helps nobody. The libraries wrap what they
    meet, now and then without saying so, so that what an error was raised in the wake of counts too.
    """
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    chain = list(_iter_chain(error))
    if any(isinstance(each, OfflineModeIsEnabled) for each in chain):
        return False
    for each in chain:
        status = getattr(getattr(each, "response", None), "status_code", None)
        if status is not None:
            return bool(status == 429 or status >= 500)
    return any(isinstance(each, ConnectionError | TimeoutError | HTTPError) for each in chain)


def _iter_chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
