"""What a supervisor makes of workers that are no processes of this machine."""

from collections import Counter

from batchneuron.backends.backend import Core
from batchneuron.errors import WorkerFailed
from batchneuron.workers.crew import Death
from batchneuron.workers.events import PartDone, WorkerReady
from batchneuron.workers.supervise import Supervisor
from tests.supervised import SHARDS, failure_of, part_of


class ScriptedHand:
    """Is ready at once; then does what it has been given, or goes with its machine."""

    def __init__(self, is_placed, lives):
        self.is_placed, self._lives = is_placed, lives
        self._told = [WorkerReady(0.0)] if is_placed else []
        self._is_over = False

    def send(self, message):
        if message is None or not self._lives:
            self._is_over = True
        else:
            self._told.append(part_of(message.shard.index))

    def receive(self):
        told, self._told = self._told, []
        return told if told else None

    @property
    def is_heard(self):
        return bool(self._told) or self._is_over

    def kill(self):
        self._is_over = True

    def count_beats(self):
        return None

    def find_places(self):
        return ()

    def dump_stacks(self):
        pass

    def bury(self):
        return Death(failure_of(WorkerFailed), is_machines=not self._lives)


class ScriptedCrew:
    """One core after the other; the first so many machines go with what they have in hand."""

    def __init__(self, cores, going=0, places=100):
        self._cores, self._going, self._places = list(cores), going, places
        self.started = Counter()

    def find_cores(self):
        return (self._cores.pop(0),) if self._cores else ()

    def start(self, order, core):
        self.started[core.index] += 1
        self._places -= 1
        self._going -= 1
        return ScriptedHand(self._places >= 0, self._going < 0)

    def wait(self, hands, timeout_s):
        return [hand for hand in hands if hand.is_heard]


def run(crew):
    events = []
    Supervisor(None, (), events.append, lambda: False, crew=crew).run(SHARDS)
    return sorted(event.shard for event in events if isinstance(event, PartDone))


def test_machines_that_go_take_no_attempt_however_many():
    crew = ScriptedCrew([Core(0)], going=12)

    assert run(crew) == [shard.index for shard in SHARDS]
    assert crew.started == {0: 13}


def test_cores_that_come_later_get_workers():
    crew = ScriptedCrew([Core(0), Core(1), Core(2)])

    assert run(crew) == [shard.index for shard in SHARDS]
    assert set(crew.started) == {0, 1, 2}


def test_workers_without_a_place_are_not_waited_for():
    crew = ScriptedCrew([Core(0), Core(1), Core(2)], places=1)

    assert run(crew) == [shard.index for shard in SHARDS]
