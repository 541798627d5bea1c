"""Events: plain values that survive the way between processes and into a file."""

import pickle
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import get_args

import pytest
from pydantic import TypeAdapter

from batchneuron.workers import events
from batchneuron.workers.events import (
    BatchDone,
    CoreRetired,
    Event,
    Failure,
    OthersSeen,
    PartDone,
    RoomAwaited,
    RowIsolated,
    ShardFailed,
    StageSeconds,
    WorkerBroken,
    WorkerLost,
    WorkerReady,
)
from batchneuron.workers.pulse import Place

FAILURE = Failure("OSError", "disk\nfull", 75, retryable=True, traceback="Traceback …")
DONE = PartDone(3, 37, 1, 2, 300, 400, 5000, "0" * 64, created=True, seconds=StageSeconds(0.1, 0.2, 0.3))
EVENTS = [
    *(WorkerReady(1.5), BatchDone(128), DONE, ShardFailed(3, FAILURE), WorkerBroken(FAILURE)),
    CoreRetired(4, "NRT_HW_ERR_NC_UE"),
    ShardFailed(3, FAILURE, Place(3, "execute", 7, 0, 64, 64)),
    WorkerLost(1, "SIGSEGV"),
    RoomAwaited("1 CPU of 0"),
    RowIsolated(3, 12_345, "worker_crash", "SIGSEGV"),
    OthersSeen(37, awaited=2),
]


def test_there_is_an_example_of_every_event():
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_crosses_the_process_border_unchanged(event):
    assert pickle.loads(pickle.dumps(event)) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_cannot_be_changed(event):
    with pytest.raises((FrozenInstanceError, AttributeError)):
        setattr(event, fields(event)[0].name, None)


def test_a_report_survives_json():
    adapter = TypeAdapter(PartDone)

    assert adapter.validate_json(adapter.dump_json(DONE)) == DONE


def test_events_hold_plain_values_only():
    plain = {"int", "float", "str", "bool"}
    records = {name for name, kind in vars(events).items() if is_dataclass(kind)}

    for name in records:
        assert {str(field.type) for field in fields(getattr(events, name))} <= plain | records
