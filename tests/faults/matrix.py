"""The fault matrix: what goes wrong, who makes it go wrong, and what has to come out.

A test says which cases it shows with `@pytest.mark.case(13)`; `make faults` runs all of them and prints
the matrix (`report.py`). After each case and a resume these hold (`invariants.py`):

    I1  each planned row is there once
    I2  no file in data/ fails to open, or disagrees with its footer
    I3  the rows are those of a run without faults, bit for bit
    I4  exit code 0 only if the manifest is there and fits; 75 where it may not be on disk yet
    I5  nothing is left over but scratch files, and the next run removes those
    I6  little is done again: what a dead worker had in its hands
    I7  no secret in any file or line
"""

from __future__ import annotations

from dataclasses import dataclass

FP = "failpoint"
ST = "strace"
HK = "botocore"
SIM = "simulation"
FX = "fixture"
OS = "system"
FAKE = "fake"
INJECTORS = {
    FP: "the run stops, dies or fails at its first step, its second, its third …, wrapped by name",
    ST: "a system call fails, or kills, when it is made for the n-th time",
    HK: "between botocore and a moto server, answers and requests are lost, changed and delayed",
    SIM: "a model store or scheduler of the tests takes the place of the real one",
    FX: "a file is damaged by hand",
    OS: "signals, full and small file systems, closed streams, other processes",
    FAKE: "a backend, clock or server of the tests misbehaves",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the matrix."""

    number: int
    fault: str
    by: str
    expected: str
    reason: str = ""
    """Why no test here can show it; empty: tests do."""


CASES = (
    Case(1, "SIGKILL at each step of a run", FP, "the next run completes; I1 to I7"),
    Case(2, "SIGKILL at every write, fsync, link, unlink, openat", ST, "the next run completes; I1 to I7"),
    Case(3, "SIGKILL of a worker", OS, "another takes its shards; exit 0"),
    Case(4, "SIGKILL of the supervisor", OS, "its workers end, cores are free; the next run completes"),
    Case(5, "SIGTERM, then SIGKILL", OS, "75 if it drains in time; parts stay"),
    Case(6, "SIGINT, once and twice", OS, "drains, 130; at once, 130; the terminal is restored"),
    Case(7, "power loss: what was not flushed is gone", SIM, "no torn part is visible; it is made again"),
    Case(8, "ENOSPC on write, fsync, close, link", ST, "no part, no scratch file; 75 with path and need"),
    Case(9, "EIO from fsync", ST, "never flushed again; the part is written again, then 78"),
    Case(10, "EDQUOT, EMFILE, EROFS, EACCES", ST, "the cause by name; nothing half-done"),
    Case(11, "no hard links; no rename without overwriting", ST, "the other one; then refused with advice"),
    Case(12, "scratch disk full, output in S3", OS, "refused at the start; later as 8"),
    Case(13, "PUT carried out, answer lost", HK, "412, HEAD, own attempt: committed"),
    Case(14, "PUT lost, connection reset", HK, "sent again; one object"),
    Case(15, "409 on create", HK, "sent again; never taken for 'exists'"),
    Case(16, "412, another attempt of the same run", HK, "adopted and counted"),
    Case(17, "412, a foreign object", HK, "73, the object untouched"),
    Case(18, "503 SlowDown, 500, 429", HK, "full-jitter pauses; 75 past the deadline"),
    Case(19, "slow S3, an answer that hangs", HK, "time-out, sent again; other workers go on"),
    Case(20, "a bit flips in the body", HK, "checksum refused, sent again"),
    Case(21, "403, expired token, skewed clock", HK, "credentials once more, then 77; the part is kept"),
    Case(22, "no bucket, other region, delete marker", HK, "78; followed or named; made again"),
    Case(
        23, "store ignores If-None-Match, or looks and then writes", HK, "refused before anything is computed"
    ),
    Case(
        24, "a page of a listing lost, cut, stale", HK, "asked for again; a part that was missed costs a 412"
    ),
    Case(25, "two runners, one spec, one folder", OS, "both 0; I1; work done twice is told"),
    Case(26, "two runners, different specs, one folder", OS, "the second 73, naming the fields"),
    Case(27, "SIGSTOP of a runner beyond its lease", FP, "its late create fails or is a valid part; I1"),
    Case(28, "`--overwrite` beside a live runner", SIM, "old parts are strays; `gc` removes them"),
    Case(29, "the wall clock jumps, hosts disagree", FAKE, "no effect"),
    Case(30, "two finishers write the manifest", SIM, "same bytes, one creates, both 0"),
    Case(
        31, "a part deleted or cut after its commit", FX, "`verify` names it; made again, or 73 with the rm"
    ),
    Case(32, "the input changes between attempts", FX, "65, the file with both versions"),
    Case(33, "torn, empty, foreign Parquet; a bad page", FX, "65 by name, or skipped with its rows counted"),
    Case(34, "JSONL: broken lines of every kind", FX, "row errors by line; the cap on a line holds"),
    Case(35, "CSV: ragged, quoted wrong, no header", FX, "row errors; ordinals stay exact"),
    Case(36, "gzip: cut, bad CRC, many members, bomb", FX, "65 at the row; read in full; stopped by the cap"),
    Case(
        37, "invalid UTF-8, surrogates, NUL, a huge token", FX, "row errors, or told apart; the part goes on"
    ),
    Case(38, "schema drift between files", FX, "widened, or an error that names the column"),
    Case(39, "nulls, empty texts, no rows at all", FX, "rejected with a null; an empty part with its schema"),
    Case(40, "NaN, Inf, wrong shape, all alike", FAKE, "row error; 70 for a shape"),
    Case(41, "a row that crashes, hangs, throws", FAKE, "found by bisection; its neighbours are predicted"),
    Case(42, "a worker that hangs", OS, "stack dumped, killed, another; then as 41"),
    Case(43, "a worker killed for memory", OS, "another; twice, then as 41; then 75"),
    Case(44, "workers that die at the start", FAKE, "stopped after three alike; 78 if none was ever ready"),
    Case(45, "a core lost, fewer than asked", FAKE, "the rest go on; none left, 75"),
    Case(46, "an artifact cut, altered, built twice", FX, "never loaded, built again; published whole"),
    Case(
        47, "hub 429, 5xx, offline; the model moved", FAKE, "told in a line; another model is refused by name"
    ),
    Case(48, "AWS Batch: reclaimed, attempt 2, child never runs", SIM, "resumed; others take its shards"),
    Case(49, "closed stdout, no TTY, TERM=dumb, full log disk", OS, "the run goes on; plain lines"),
    Case(
        *(50, "metrics endpoint down, slow", FAKE, "dropped with one warning"),
        reason="there is no metrics endpoint: figures are printed, and kept in the run folder",
    ),
)
BY_NUMBER = {case.number: case for case in CASES}
