"""Compile: every shape's program on disk, verified, before a worker starts; each compiled once.

First what the local cache has, then what the shared store has, then compilers: the longest shape first,
as many at once as memory and CPUs allow. What another process compiles already is waited for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from multiprocess.connection import wait

from batchneuron.artifacts.entry import INDEX, find_flaw, seal_entry
from batchneuron.artifacts.exchange import Exchange, Sharing
from batchneuron.artifacts.local import Artifact, build_artifact, explain_miss, list_distinct, tell_wait
from batchneuron.artifacts.locks import Lock, hold_entry, try_build_lock
from batchneuron.artifacts.publish import make_scratch, prepare_cache, remove_leftovers
from batchneuron.backends.backend import Backend, CompileNeeds, CompileRequest
from batchneuron.backends.machine import available_memory_bytes, list_cpus
from batchneuron.errors import BackendError, Incomplete
from batchneuron.planning.shapes import Shape
from batchneuron.programs.compiler import Compiler, start_compiler

__all__ = ["CompileEvent", "CompileWatch", "Compiled", "Sharing", "compile_missing"]
_POLL_S = 0.2
_HASHING_THREADS = 4
Step = Literal["reused", "fetched", "waiting", "started", "compiled", "warned"]


@dataclass(frozen=True, slots=True)
class CompileEvent:
    """What happens to one shape's program."""

    step: Step
    shape: Shape
    key: str
    """Name of the artifact: 32 hex digits."""
    seconds: float = 0.0
    """For `compiled` and `fetched`: how long that took."""
    note: str = ""
    """A line for people: why it is compiled again, what is waited for, what could not be shared."""


@dataclass(frozen=True, slots=True)
class CompileWatch:
    """How a caller follows compilation, and stops it."""

    on_event: Callable[[CompileEvent], None] = lambda _: None
    is_stopped: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the cache now holds for a job."""

    artifacts: tuple[Artifact, ...]
    """Those asked for, in their order, sealed: for the work order."""
    events: tuple[CompileEvent, ...]
    """The last one of each artifact, longest shape first: `reused`, `fetched` or `compiled`."""
    not_shared: tuple[str, ...] = ()
    """What the shared store did not take, and why."""
    holds: tuple[Lock, ...] = field(default=(), repr=False)
    """`cache gc` leaves these artifacts alone for as long as this record lives."""


def compile_missing(
    backend: Backend,
    request: CompileRequest,
    artifacts: Sequence[Artifact],
    watch: CompileWatch | None = None,
    sharing: Sharing | None = None,
    jobs: int | None = None,
) -> Compiled:
    """All artifacts, fetched or compiled where they are missing; each is verified once.

    Args:
        backend: compiles, in processes of its own where it needs any; then it must survive pickling.
        request: the program.
        artifacts: of `list_artifacts`; a folder may be there more than once.
        watch: is told what happens, and asked whether to go on.
        sharing: the store to ask first, and to give to.
        jobs: compilers at once, at most; None: as many as memory and CPUs allow.

    Raises:
        CompileError: a compiler failed or was killed; names its log. The others are ended.
        BackendError: the cache cannot be written, or the shared store cannot be used as it is named.
        Incomplete: stopped by the watch.
    """
    distinct = list_distinct(artifacts)
    for cache in {artifact.folder.parent for artifact in distinct}:
        prepare_cache(cache)
    needs = backend.compile_needs(request.model)
    session = _Session(backend, request, watch or CompileWatch(), sharing or Sharing(), needs)
    try:
        session.find_present(distinct)
        session.make_missing(_count_slots(needs, jobs))
    finally:
        session.end()
    return session.collect(artifacts, distinct)


def _count_slots(needs: CompileNeeds | None, jobs: int | None) -> int:
    if needs is None:
        return 1
    if jobs is not None:
        return max(1, jobs)
    return max(1, min(available_memory_bytes() // max(1, needs.memory_bytes), len(list_cpus())))


class _Session:
    """One call of `compile_missing`: what is still to be made, and what holds what was."""

    def __init__(
        self,
        backend: Backend,
        request: CompileRequest,
        watch: CompileWatch,
        sharing: Sharing,
        needs: CompileNeeds | None,
    ) -> None:
        self._backend, self._request, self._needs = backend, request, needs
        self._watch, self._sharing = watch, sharing
        self._exchange = Exchange(sharing, self._warn)
        self._waiting: list[Artifact] = []
        self._running: list[Compiler] = []
        self._seals: dict[Path, str] = {}
        self._holds: dict[Path, Lock] = {}
        self._ends: dict[Path, CompileEvent] = {}
        self._waited_for: set[Path] = set()

    def find_present(self, distinct: Sequence[Artifact]) -> None:
        """Verify what the cache has; the rest is to be made."""
        with ThreadPoolExecutor(_HASHING_THREADS) as pool:
            present = list(pool.map(self._take, distinct))
        for artifact, is_here in zip(distinct, present, strict=True):
            if is_here:
                self._end("reused", artifact)
            else:
                self._waiting.append(artifact)

    def make_missing(self, slots: int) -> None:
        """Fetch or compile until nothing is missing."""
        while self._waiting or self._running:
            if self._watch.is_stopped():
                raise Incomplete("stopped while programs were compiled", "", "those that are done are kept")
            has_begun = len(self._running) < slots and self._begin_one()
            if self._running:
                self._listen(0 if has_begun else _POLL_S)
            elif not has_begun:
                time.sleep(_POLL_S)

    def end(self) -> None:
        """End the compilers that still run."""
        for compiler in self._running:
            compiler.close()
        self._running.clear()

    def collect(self, artifacts: Sequence[Artifact], distinct: Sequence[Artifact]) -> Compiled:
        """The artifacts as they now are."""
        if self._sharing.offers_all:
            for artifact in distinct:
                if self._ends[artifact.folder].step == "reused":
                    self._exchange.give(artifact)
        holds = tuple(self._holds.values())
        self._holds.clear()  # from here on it is the record that holds them
        return Compiled(
            artifacts=tuple(replace(artifact, seal=self._seals[artifact.folder]) for artifact in artifacts),
            events=tuple(self._ends[artifact.folder] for artifact in distinct),
            not_shared=tuple(self._exchange.not_shared),
            holds=holds,
        )

    def _begin_one(self) -> bool:
        """Do, or start, the first that no other process is at: True, or False if there is none."""
        for artifact in self._waiting:
            lock = try_build_lock(artifact.folder)
            if lock is not None:
                self._waiting.remove(artifact)
                self._make(artifact, lock)
                return True
            if artifact.folder not in self._waited_for:
                self._waited_for.add(artifact.folder)
                self._tell("waiting", artifact, note=tell_wait(artifact))
        return False

    def _make(self, artifact: Artifact, lock: Lock) -> None:
        """Find it made meanwhile, fetch it, compile it, or start a compiler that takes over the lock."""
        started = time.perf_counter()
        compiler = None
        try:
            if self._take(artifact):
                self._end("reused", artifact)
                return
            note = explain_miss(self._backend, self._request, artifact)
            remove_leftovers(artifact.folder)
            if self._exchange.take(artifact) and self._take(artifact):
                self._end("fetched", artifact, time.perf_counter() - started)
                return
            self._tell("started", artifact, note=note)
            compiler = self._compile(artifact, lock)
        finally:
            if compiler is None:
                lock.release()
        if compiler is not None:
            self._running.append(compiler)
        else:
            self._complete(artifact, time.perf_counter() - started)

    def _compile(self, artifact: Artifact, lock: Lock) -> Compiler | None:
        """Start a compiler, or compile here where that needs no process of its own."""
        if self._needs is not None:
            return start_compiler(self._backend, self._request, artifact, self._needs.environment, lock)
        build_artifact(self._backend, self._request, artifact, make_scratch(artifact.folder))
        return None

    def _listen(self, timeout_s: float) -> None:
        """Hear the compilers that have ended."""
        ready = wait([compiler.connection for compiler in self._running], timeout_s)
        for compiler in [compiler for compiler in self._running if compiler.connection in ready]:
            self._running.remove(compiler)
            compiler.finish()
            self._complete(compiler.artifact, compiler.seconds)

    def _complete(self, artifact: Artifact, seconds: float) -> None:
        if not self._take(artifact):
            raise BackendError(
                f"what was just compiled does not verify: {find_flaw(artifact.folder)}",
                str(artifact.folder),
                "run it again; an upgrade of a library while it compiled does this",
            )
        self._end("compiled", artifact, seconds)
        self._exchange.give(artifact)

    def _take(self, artifact: Artifact) -> bool:
        """Verify an artifact and hold on to it: True, or False where it is not there as it should be."""
        hold = hold_entry(artifact.folder)
        if hold is None or find_flaw(artifact.folder) is not None:
            return False
        self._seals[artifact.folder] = seal_entry(artifact.folder)
        self._holds[artifact.folder] = hold
        os.utime(artifact.folder / INDEX)  # `cache gc` deletes what was not used for longest
        return True

    def _end(self, step: Step, artifact: Artifact, seconds: float = 0.0) -> None:
        self._ends[artifact.folder] = self._tell(step, artifact, seconds)

    def _warn(self, artifact: Artifact, note: str) -> None:
        self._tell("warned", artifact, note=note)

    def _tell(self, step: Step, artifact: Artifact, seconds: float = 0.0, note: str = "") -> CompileEvent:
        event = CompileEvent(step, artifact.shape, artifact.key, seconds, note)
        self._watch.on_event(event)
        return event
