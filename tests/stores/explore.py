"""Explore: every order in which programs can call one bucket, with calls and answers lost, and crashes.

A program is real code over a store over a `ModelClient`. It is deterministic, and between two calls of the
store all it knows is what the store has returned: a store keeps nothing. So where a program stands is the
list of those results, and the answers of the bucket within the store's present call. A program that is needed
again is started anew and told them all; nothing is saved or copied, and there are no threads.

A state is the bucket, where each program stands, and how many crashes are left. What a step does:

    answered        the call is carried out, and the program goes on
    answer lost     a write is carried out, and the program, which does not know, stands where it stood
    crash           the program begins again as another process; what it knew is gone

A call that no other program's step can have a say in, nor the other way round, is carried out before all else
and alone: its order makes no difference (partial-order reduction). `is_settled` says which those are.

A request that is lost before S3 has it, and a lost answer to a read, change nothing: the state is the same,
because the program then sends the same call again. That is checked once for every place a program can be at.
So any number of losses is covered, and patience that ends is a crash.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from botocore.exceptions import ConnectionClosedError

from tests.stores.model_bucket import Answer, Call, ModelClient, Objects, answer_call


class Suspended(BaseException):
    """The program waits for the answer to a call; not an `Exception`, so that no code catches it."""


@dataclass(frozen=True, slots=True)
class Process:
    """One life of a program."""

    client: ModelClient
    name: str
    """Tells this life from all others."""
    memory: Memory
    say: Callable[[Any], None]
    """Tells the checker something; no step of its own."""

    def remember(self, store: Any) -> Any:
        """The store, with results known from before in place of the calls that gave them."""
        return _Remembered(store, self.memory)

    def forget(self, known: str) -> None:
        """From here on all that has been is this: two ways that led to it are one place."""
        self.memory.known, self.memory.forgotten = known, self.memory.told

    def draw_id(self) -> str:
        """What no other life draws, and this one in no other call of the store; each time the same."""
        return f"{self.name}.{self.memory.told:04}"


Program = Callable[[Process], Any]
"""Ends with its outcome."""


class Violation(AssertionError):
    """A state that must not be, and how it came about."""


class Place:
    """Where a program stands: what its store has returned, the answers since, and the call it makes next."""

    __slots__ = ("answers", "call", "life", "next", "outcome", "results", "said")

    def __init__(self, life: int, results: tuple[Any, ...] = (), answers: tuple[Answer, ...] = ()) -> None:
        self.life, self.results, self.answers = life, results, answers
        self.next: dict[Answer, Place] = {}
        self.call: Call | None = None
        self.outcome: Any = None
        self.said: tuple[Any, ...] = ()


@dataclass
class Memory:
    """A program's way to its place, and on to the next call that has no answer yet."""

    results: list[Any]
    answers: list[Answer]
    asked: list[Call] = field(default_factory=list)
    told: int = 0
    given: int = 0
    known: str = ""
    """What the program still knows of the first `forgotten` results; empty: all of each."""
    forgotten: int = 0

    def tell(self) -> str:
        """All that the program's next steps depend on, beside the answers."""
        return self.known + repr(self.results[self.forgotten :])

    def ask(self, call: Call) -> Answer:
        """What the bucket said; what comes after that is lost once, and must be sent again."""
        if self.given < len(self.answers):
            self.given += 1
            return self.answers[self.given - 1]
        self.asked.append(call)
        if len(self.asked) == 1:
            raise ConnectionClosedError(endpoint_url=call.key)
        raise Suspended

    def call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """What a method of the store returns or raises."""
        if self.told == len(self.results):
            try:
                result, error = method(*arguments), None
            except Exception as raised:  # noqa: BLE001  # whatever it is, the program is told
                result, error = None, raised
            self.results.append((result, error))
            self.answers, self.given = [], 0
        result, error = self.results[self.told]
        self.told += 1
        if error is not None:
            raise error
        return result


class _Remembered:
    """A store whose results are kept."""

    def __init__(self, store: Any, memory: Memory) -> None:
        self._store, self._memory = store, memory

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        is_asked = callable(found) and name != "scratch_file"
        return partial(self._memory.call, found) if is_asked else found


State = tuple[int, tuple[Place, ...], int]
"""The bucket (a number), where the programs stand, crashes left."""


@dataclass
class Explorer:
    """The states that some programs can bring a bucket into."""

    programs: Sequence[Program]
    crashes: int
    check: Callable[[Objects], None]
    """Raises Violation where a bucket is not as it must be."""
    check_step: Callable[[Objects, Objects], None] = lambda before, after: None
    check_said: Callable[[Objects, Any], None] = lambda objects, said: None
    is_settled: Callable[[Objects, Call], bool] = lambda objects, call: False
    """Whether the answer to a call, and what it leaves, is the same now and at any later time."""
    start: Objects = field(default_factory=dict)
    family: str = ""
    """Before the names of all lives: what made `start` had other names."""
    _buckets: list[Objects] = field(default_factory=list)
    _numbers: dict[frozenset[Any], int] = field(default_factory=dict)
    _answers: dict[tuple[int, Call], tuple[int, Answer]] = field(default_factory=dict)
    _places: dict[Any, Place] = field(default_factory=dict)
    _births: dict[tuple[int, int], Place] = field(default_factory=dict)

    def begin(self) -> State:
        """Nothing has happened yet."""
        lives = tuple(self._be_born(number, 0) for number in range(len(self.programs)))
        return self._number(self.start), lives, self.crashes

    def objects(self, state: State) -> Objects:
        """What is in the bucket."""
        return self._buckets[state[0]]

    def iter_steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Each step that may come next, and where it leads."""
        bucket, places, crashes = state
        first = next((number for number in range(len(places)) if self._is_alone(state, number)), None)
        for number, place in enumerate(places):
            if place.call is None or first not in (None, number):
                continue
            after, answer = self._carry_out(bucket, place.call)
            gone_on = self._go_on(number, place, answer)
            name = f"{number}.{place.life}: {place.call.verb} {place.call.key}"
            yield f"{name} → {answer.status}", (after, _set(places, number, gone_on), crashes)
            if first is not None:
                return
            if after != bucket:
                yield f"{name} → answer lost", (after, places, crashes)
            if crashes:
                born = self._be_born(number, place.life + 1)
                yield f"{number}.{place.life}: crash", (bucket, _set(places, number, born), crashes - 1)

    def _is_alone(self, state: State, number: int) -> bool:
        """Whether a program's next call is settled, or reads what nobody else writes."""
        call = state[1][number].call
        if call is None:
            return False
        is_own = f"{self.family}{number}x{state[1][number].life}." in call.key and not call.is_write
        return is_own or self.is_settled(self._buckets[state[0]], call)

    def explore(self) -> tuple[int, list[State]]:
        """How many states there are, and those where all programs have ended.

        Raises:
            Violation: with the steps that led to it.
        """
        first = self.begin()
        came_from: dict[State, tuple[str, State] | None] = {first: None}
        waiting, ends = [first], []
        while waiting:
            state = waiting.pop()
            if all(place.call is None for place in state[1]):
                ends.append(state)
            for name, after in self.iter_steps(state):
                if after in came_from:
                    continue
                came_from[after] = (name, state)
                try:
                    self._judge(state, after)
                except Violation as violation:
                    raise Violation(f"{violation}, after\n{tell_way(came_from, after)}") from None
                waiting.append(after)
        return len(came_from), ends

    def walk(self, seed: int, crash_share: float = 0.02) -> State:
        """One way through, drawn by chance, to its end.

        Raises:
            Violation: with the seed and the steps.
        """
        chance, state, names = random.Random(seed), self.begin(), []
        while steps := list(self.iter_steps(state)):
            calm = [step for step in steps if not step[0].endswith(("crash", "lost"))]
            name, after = chance.choice(steps if chance.random() < crash_share * len(steps) else calm)
            names.append(name)
            try:
                self._judge(state, after)
            except Violation as violation:
                raise Violation(f"{violation}, with seed {seed}, after\n" + "\n".join(names)) from None
            state = after
        return state

    def _judge(self, before: State, after: State) -> None:
        now = self._buckets[after[0]]
        if before[0] != after[0]:
            self.check_step(self._buckets[before[0]], now)
            self.check(now)
        for old, new in zip(before[1], after[1], strict=True):
            if old is not new and old.life == new.life:
                for said in new.said[len(old.said) :]:
                    self.check_said(now, said)

    def _number(self, objects: Objects) -> int:
        number = self._numbers.setdefault(frozenset(objects.items()), len(self._buckets))
        if number == len(self._buckets):
            self._buckets.append(objects)
        return number

    def _carry_out(self, bucket: int, call: Call) -> tuple[int, Answer]:
        found = self._answers.get((bucket, call))
        if found is None:
            after, answer = answer_call(self._buckets[bucket], call)
            found = self._answers[(bucket, call)] = (self._number(after), answer)
        return found

    def _be_born(self, number: int, life: int) -> Place:
        if (number, life) not in self._births:
            self._births[(number, life)] = self._run(number, life, [], [])
        return self._births[(number, life)]

    def _go_on(self, number: int, place: Place, answer: Answer) -> Place:
        if answer not in place.next:
            answers = [*place.answers, answer]
            place.next[answer] = self._run(number, place.life, list(place.results), answers)
        return place.next[answer]

    def _run(self, number: int, life: int, results: list[Any], answers: list[Answer]) -> Place:
        """Where a program comes to that has had these results, and then these answers."""
        memory, said = Memory(results, answers), []
        name = f"{self.family}{number}x{life}"
        process = Process(ModelClient(memory.ask), name, memory, said.append)
        outcome = None
        try:
            outcome = self.programs[number](process)
        except Suspended:
            if memory.asked[0] != memory.asked[1]:
                raise Violation(f"a lost {memory.asked[0].verb} is not sent again") from None
        key = (number, life, memory.tell(), tuple(memory.answers))
        if key not in self._places:
            place = self._places[key] = Place(life, tuple(memory.results), tuple(memory.answers))
            place.call = memory.asked[0] if outcome is None else None
            place.outcome, place.said = outcome, tuple(said)
        return self._places[key]


def _set(places: tuple[Place, ...], number: int, place: Place) -> tuple[Place, ...]:
    return (*places[:number], place, *places[number + 1 :])


def tell_way(came_from: dict[State, tuple[str, State] | None], state: State) -> str:
    """The steps that led to a state, one a line."""
    names = []
    while (step := came_from[state]) is not None:
        names.append(step[0])
        state = step[1]
    return "\n".join(reversed(names))
